"""One process at a time on a folder.

Knows locks of the file system; must not know what the folder is for. The system drops a lock when its holder ends,
however it ends, so a lock file that a killed process left behind stops nobody.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock, Timeout

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files, processes

logger = logging.getLogger("retrieval_distill")

WAIT: ContextVar[bool] = ContextVar("wait", default=False)
"""Whether a folder that another process holds is waited for; otherwise it is refused. ``--wait`` sets it."""

GRACE = 0.5
"""Seconds in which a lock that is just being released is tried again before its holder is named."""

_HELD: set[tuple[int, int, Path]] = set()
"""Process, thread and lock of every :func:`alone` under way: a stage locks what its caller may hold already."""


@contextmanager
def waiting(wait: bool = True) -> Iterator[None]:
    """Within, whether a folder that another process holds is waited for."""
    before = WAIT.set(wait)
    try:
        yield
    finally:
        WAIT.reset(before)


@contextmanager
def alone(folder: str | Path, wait: bool | None = None) -> Iterator[None]:
    """Hold a folder for this process, by ``.NAME.lock`` beside it.

    Of processes that were started together the first holds it for all.

    Args:
        folder: What to hold; it need not exist.
        wait: Whether to wait for another process that holds it; ``None``: as :data:`WAIT` says.

    Raises:
        UserError: Another process holds it; the message names it.
    """
    if processes.rank() > 0:
        yield
        return
    folder = Path(folder)
    path = folder.parent / f".{folder.name}.lock"
    key = os.getpid(), threading.get_ident(), path.absolute()
    if key in _HELD:
        yield
        return
    files.make_folder(folder.parent)
    lock = _acquired(path, folder, WAIT.get() if wait is None else wait)
    _HELD.add(key)
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        _HELD.discard(key)
        path.unlink(missing_ok=True)  # before the release: who locks a file that has no name any more tries again
        lock.release()


def _acquired(path: Path, folder: Path, wait: bool) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=GRACE)
    except Timeout:
        said = f"{folder}: {_holder(path) or 'another process'} is writing there"
        if not wait:
            raise UserError(f"{said}; wait for it, or stop it (with --wait this command waits)") from None
        logger.info("%s; waiting for it", said)
        lock.acquire(timeout=-1, poll_interval=0.2)
    with suppress(OSError):
        if not re.match(rb"process |\d+\s|$", path.read_bytes()):
            lock.release()
            raise UserError(f"{path}: this file is no lock of ours, and its name is needed: move it away") from None
    return lock


def _holder(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""
