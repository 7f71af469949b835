"""Workers: further processes of one search on this machine, each of which tries settings as the first one does.

A worker reads one line of JSON from its standard input, which then stays open: it ends when that is closed, with its
parent at the latest. What it logs, the parent logs. Knows processes; must not know what a trial is.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import IO

from retrieval_distill.config import Recipe
from retrieval_distill.student import exported

logger = logging.getLogger("retrieval_distill")

MODULE = "retrieval_distill.tuning.worker"


@contextmanager
def beside(jobs: int, recipe: Recipe, folder: Path, storage: str | None, name: str) -> Iterator[None]:
    """Search with ``jobs`` processes within this block, this one included; the others end with the block.

    A worker that ends before is reported, and no more: what it did, another process takes up.

    Args:
        jobs: Processes, which share the cores.
        recipe: With its section ``tune``.
        folder: Of the search.
        storage: Database of its trials; ``None``: a file in the folder.
        name: The search's name there.
    """
    if jobs == 1:
        yield
        return
    values = recipe.model_dump(mode="json", exclude_unset=True)
    order = json.dumps({"recipe": values, "folder": str(folder), "storage": storage, "name": name})
    started = [_started(number, jobs, order) for number in range(1, jobs)]
    listeners = [Thread(target=_log, args=(number, worker.stderr)) for number, worker in enumerate(started, 1)]
    for listener in listeners:
        listener.start()
    try:
        with _share_of_cores(jobs):
            yield
    finally:
        for number, worker in enumerate(started, 1):
            if worker.poll():
                logger.warning("worker %d ended early (%s); others took up its trial", number, worker.returncode)
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()
        for listener in listeners:
            listener.join()


def _started(number: int, jobs: int, order: str) -> subprocess.Popen[str]:
    worker = subprocess.Popen(
        [sys.executable, "-m", MODULE],
        stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment(number, jobs),
        start_new_session=True,  # Ctrl-C is the parent's, which ends its workers
    )  # fmt: skip
    assert worker.stdin is not None
    worker.stdin.write(f"{order}\n")
    worker.stdin.flush()
    return worker


def _log(number: int, lines: IO[str] | None) -> None:
    for line in lines or ():
        logger.info("worker %d: %s", number, line.rstrip())


def _environment(number: int, jobs: int) -> dict[str, str]:
    """Of a worker: its share of the cores, and of several GPUs one."""
    from retrieval_distill.hardware import devices

    found = {**os.environ, "OMP_NUM_THREADS": str(_threads(jobs))}
    gpus = [device for device in devices.devices() if device.startswith("cuda")]
    if len(gpus) > 1:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(len(gpus))))
        found["CUDA_VISIBLE_DEVICES"] = visible.split(",")[number % len(gpus)]
    return found


def _threads(jobs: int) -> int:
    """Of one of so many processes."""
    return max(1, exported.threads() // jobs)


@contextmanager
def _share_of_cores(jobs: int) -> Iterator[None]:
    """This process's own share, within this block."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(min(before, _threads(jobs)))
    try:
        yield
    finally:
        torch.set_num_threads(before)
