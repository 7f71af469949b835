"""The running service: the engine that answers now, the queues that requests share, and how a newer engine comes in.

Knows engines, queues and the feedback log; must not know HTTP.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from retrieval_distill.errors import UserError
from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.serving.batching import Batcher, Work
from retrieval_distill.serving.engine import Engine
from retrieval_distill.serving.limits import Limits
from retrieval_distill.serving.metrics import Metrics

logger = logging.getLogger("retrieval_distill")


@dataclass(eq=False)
class Service:
    """What all requests share. ``engine`` is replaced as a whole; a request keeps the one that it began with.

    Args:
        engine: Answers now.
        open: Opens the engine of what the folders hold now.
        state: What they hold, cheaply; a new engine is opened when it changes.
        seen: What they held just before ``engine`` was opened.
        limits: Of what clients may ask.
        log: Where searches and feedback are kept; ``None``: nowhere.
        teacher_name: The teacher's, as it was asked for; ``None``: there is none.
    """

    engine: Engine
    open: Callable[[], Engine]
    state: Callable[[], Any]
    seen: Any
    limits: Limits = field(default_factory=Limits)
    log: FeedbackLog | None = None
    teacher_name: str | None = None
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.batchers: dict[str, Batcher] = {}
        for stage, most in (("encode", 64), ("search", 32), ("rerank", 64)):
            batcher = Batcher(most, self.limits.waiting)
            batcher.observe = self.metrics.observer(stage, lambda batcher=batcher: batcher.length)  # type: ignore[misc]
            self.batchers[stage] = batcher
        self.stopping = False
        self._swapping = asyncio.Lock()

    async def do(self, stage: str, work: Work, items: Sequence[Any]) -> list[Any]:
        """The results of items from one stage: ``encode``, ``search`` or ``rerank``.

        Raises:
            QueueFullError: Too many items wait there.
        """
        return await self.batchers[stage](work, items)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Within, queues are worked on and folders are watched."""
        tasks = [asyncio.create_task(batcher.run()) for batcher in self.batchers.values()]
        tasks.append(asyncio.create_task(self._watch()))
        try:
            yield
        finally:
            self.stopping = True
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self.log is not None:
                self.log.close()

    async def reload(self) -> bool:
        """Open what the folders hold now, and let it answer from then on, if it is not what answers already.

        Raises:
            UserError: It cannot be opened; what answered before still does.
        """
        async with self._swapping:
            while (found := await asyncio.to_thread(self.state)) != self.seen:
                try:
                    engine = await asyncio.to_thread(self.open)
                except UserError:
                    if await asyncio.to_thread(self.state) != found:
                        continue  # it was being replaced
                    self.metrics.reloads.labels("failed").inc()
                    raise
                self.engine, self.seen = engine, found
                self.metrics.reloads.labels("opened").inc()
                logger.info("now serving index %s", engine.versions["index"]["fingerprint"][:12])
                if await asyncio.to_thread(self.state) == found:
                    return True
            return False

    async def _watch(self) -> None:
        """Look at the folders, and open what is new in them; what failed is tried again once they change again."""
        failed = None
        while True:
            await asyncio.sleep(self.limits.watch_seconds)
            with suppress(OSError, UserError):
                if (found := await asyncio.to_thread(self.state)) in (self.seen, failed):
                    continue
                failed = found
                try:
                    await self.reload()
                except UserError as error:
                    logger.warning("what is new cannot be served, what was there before still is: %s", error)

    def described(self) -> dict[str, Any]:
        """The systems, fields and abilities."""
        engine = self.engine
        return {
            "systems": [system.described() for system in engine.systems.values()],
            "default": engine.default,
            "rerank": engine.teacher is not None,
            "fields": [{"name": name, "type": kind} for name, kind in engine.fields.types.items()],
            "feedback": self.log is not None,
            "docs": engine.documents,
        }


class Clock:
    """Milliseconds by stage of one request."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {"encode": 0.0, "search": 0.0, "rerank": 0.0}
        self._begun = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """What passed since the last call was this stage."""
        now = time.perf_counter()
        self.stages[stage] += 1000 * (now - self._last)
        self._last = now

    def milliseconds(self) -> dict[str, float]:
        """By stage, and in total."""
        total = 1000 * (time.perf_counter() - self._begun)
        return {stage: round(spent, 3) for stage, spent in {**self.stages, "total": total}.items()}
