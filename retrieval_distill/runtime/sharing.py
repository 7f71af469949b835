"""Results that several runs share: a stage takes over what another run has made from the same inputs.

Knows runs' folders and finished results; must not know what a stage does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from retrieval_distill.runtime import lock, manifests, trash
from retrieval_distill.runtime.manifests import Manifest

RUNS: ContextVar[Iterable[Path]] = ContextVar("runs", default=())
"""Folders of runs that share results; see :func:`among`.

A context variable, because stages are started by verbs, which know no runs: a parameter would pass through all of them.
"""


@contextmanager
def among(runs: Iterable[Path]) -> Iterator[None]:
    """Let stages of these runs reuse each other's results for the same inputs, within this block.

    Files are hard-linked if the file system allows it, else copied; a stage replaces files and never writes into a
    finished one. Processes that work on several of the runs at a time wait for each other: for the same inputs at the
    same place, the first one works, and the others take over its result.

    Args:
        runs: Folders of the runs, in one folder, asked for whenever a stage begins. A stage looks for its result at the
            same relative path in the other runs.
    """
    before = RUNS.set(runs)
    try:
        yield
    finally:
        RUNS.reset(before)


def _run_of(folder: Path) -> Path | None:
    """The one of the runs that share results in which a folder lies."""
    return next((run for run in RUNS.get() if folder.is_relative_to(run)), None)


@contextmanager
def alone_among_runs(folder: Path, mark: str) -> Iterator[None]:
    """Wait for a process that works for the same inputs in another of the runs that share results."""
    own = _run_of(folder)
    if own is None:
        yield
        return
    with lock.exclusive(own.parent / f"{folder.name}-{mark[:16]}", wait=True):
        yield


def take(folder: Path, partial: Path, mark: str, name: str) -> Manifest | None:
    """The manifest of another run's result, which is put into ``partial``; ``None``: no other has it."""
    own = _run_of(folder)
    if own is None:
        return None
    for theirs in (run / folder.relative_to(own) for run in RUNS.get() if run != own):
        if manifests.finished_manifest(theirs, mark):
            aside = trash.name_for(folder)  # complete before it has its name; swept if this process is killed
            with suppress(OSError):  # its process may just be moving or removing it
                aside.mkdir()
                manifests.write_mark(aside, mark, name)
                shutil.copytree(theirs, aside, copy_function=_linked, dirs_exist_ok=True)
                if found := manifests.finished_manifest(aside, mark):
                    trash.discard(partial, folder)
                    aside.rename(partial)
                    return found
            shutil.rmtree(aside, ignore_errors=True)
    return None


def _linked(source: str, target: str) -> str:
    if Path(source).name != manifests.MARK:  # an attempt writes its mark where it stands
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return target
    return shutil.copy2(source, target)
