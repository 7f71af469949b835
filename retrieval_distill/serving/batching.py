"""Work of several clients done together: items wait in a bounded queue and go through a function in batches.

One worker thread calls the function, while further items gather; a batch takes an equal share of every waiting job, so
that one with thousands of items does not keep one with a single item waiting. Knows queues and functions; must not know
what the items are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

Work = Callable[[list[Any]], Sequence[Any]]
"""Items -> as many results. Jobs with equal functions share batches."""


class QueueFullError(Exception):
    """More items wait than are allowed; a client may try again after ``seconds``."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"the server is busy; try again in {seconds} s")
        self.seconds = seconds


@dataclass(eq=False)
class _Job:
    work: Work
    items: Sequence[Any]
    finished: asyncio.Future[list[Any]]
    came: float
    results: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class Observed:
    """One batch: its items, how long it took, and how long its jobs had waited."""

    items: int
    seconds: float
    waited: list[float]


@dataclass(eq=False)
class Batcher:
    """Runs functions over the items of many callers.

    Args:
        most: Most items of a batch.
        waiting: Most items that wait; more are refused, unless nothing waits.
        observe: Told of every batch.
    """

    most: int
    waiting: int
    observe: Callable[[Observed], None] = lambda observed: None
    _jobs: list[_Job] = field(default_factory=list)
    _came: asyncio.Event = field(default_factory=asyncio.Event)
    _rate: float = 100.0
    """Items per second, as lately seen."""

    @property
    def length(self) -> int:
        """Number of items that wait or are being worked on."""
        return sum(len(job.items) - len(job.results) for job in self._jobs)

    async def __call__(self, work: Work, items: Sequence[Any]) -> list[Any]:
        """The results of items, in order.

        Raises:
            QueueFullError: Too many items wait.
        """
        if not items:
            return []
        if self._jobs and self.length + len(items) > self.waiting:
            raise QueueFullError(max(1, min(60, round(self.length / self._rate))))
        job = _Job(work, items, asyncio.get_running_loop().create_future(), time.perf_counter())
        self._jobs.append(job)
        self._came.set()
        try:
            return await job.finished
        finally:  # finished, or its caller has gone
            if job in self._jobs:
                self._jobs.remove(job)

    async def run(self) -> None:
        """Work until cancelled."""
        with ThreadPoolExecutor(1) as worker:
            while True:
                await self._came.wait()
                if not self._jobs:
                    self._came.clear()
                    continue
                batch = self._next()
                await self._do(worker, batch)

    def _next(self) -> list[tuple[_Job, list[Any]]]:
        """Jobs that share the oldest one's function, each with its part of the batch."""
        jobs = [job for job in self._jobs if job.work == self._jobs[0].work][: self.most]
        room, batch = self.most, []
        for position, job in enumerate(sorted(jobs, key=lambda job: len(job.items) - len(job.results))):
            share = max(1, room // (len(jobs) - position))
            part = list(job.items[len(job.results) :][:share])
            room -= len(part)
            batch.append((job, part))
        return batch

    async def _do(self, worker: ThreadPoolExecutor, batch: list[tuple[_Job, list[Any]]]) -> None:
        loop, begun = asyncio.get_running_loop(), time.perf_counter()
        items = [item for _, part in batch for item in part]
        try:
            results = list(await loop.run_in_executor(worker, batch[0][0].work, items))
        except Exception as error:
            if len(batch) == 1:
                self._end(batch[0][0], error)
            else:  # of one job's making, perhaps: each alone
                for one in batch:
                    await self._do(worker, [one])
            return
        seconds = time.perf_counter() - begun
        self._rate = 0.8 * self._rate + 0.2 * len(items) / max(seconds, 1e-6)
        waited = [begun - job.came for job, _ in batch if not job.results]
        self.observe(Observed(len(items), seconds, waited))
        start = 0
        for job, part in batch:
            job.results += results[start : start + len(part)]
            start += len(part)
            if len(job.results) == len(job.items):
                self._end(job)

    def _end(self, job: _Job, error: Exception | None = None) -> None:
        """Hand a job's results, or why there are none, to its caller, if it still waits."""
        if job in self._jobs:
            self._jobs.remove(job)
        if job.finished.done():
            return
        if error is None:
            job.finished.set_result(job.results)
        else:
            job.finished.set_exception(error)
