"""Locks that keep a folder to one process at a time.

Knows file-system locks; must not know what the folder is for. The operating system drops a lock when its holder ends,
however it ends, so a lock file left by a killed process blocks nobody.
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
"""Whether to wait for a folder that another process holds, instead of refusing it. Set by ``--wait``."""

GRACE = 0.5
"""Seconds to keep trying a lock, in case it is just being released, before giving up or starting to wait."""

_HELD: set[tuple[int, int, Path]] = set()
"""Process, thread and path of every lock held: a stage may lock a folder that its caller already holds."""


@contextmanager
def waiting(wait: bool = True) -> Iterator[None]:
    """Wait (or not) for folders that other processes hold, within this block."""
    before = WAIT.set(wait)
    try:
        yield
    finally:
        WAIT.reset(before)


@contextmanager
def exclusive(folder: str | Path, wait: bool | None = None) -> Iterator[None]:
    """Hold a folder for this process, with a lock file ``.NAME.lock`` next to it.

    In a distributed run only the first process takes the lock, on behalf of all.

    Args:
        folder: The folder; it need not exist.
        wait: Whether to wait if another process holds it; ``None``: the value of :data:`WAIT`.

    Raises:
        UserError: Another process holds it; the message names it.
    """
    if processes.rank() > 0:
        yield
        return
    folder, path, key = _names(Path(folder))
    if key in _HELD:
        yield
        return
    files.make_folder(folder.parent)
    lock = _acquire(path, folder, WAIT.get() if wait is None else wait)
    with _holding(lock, path, key):
        yield


@contextmanager
def attempt(folder: str | Path) -> Iterator[bool]:
    """Hold a folder as :func:`exclusive` does if that can be had at once; yields whether it is held."""
    folder, path, key = _names(Path(folder))
    if key in _HELD:
        yield True
        return
    files.make_folder(folder.parent)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    with _holding(lock, path, key):
        yield True


Key = tuple[int, int, Path]


def _names(folder: Path) -> tuple[Path, Path, Key]:
    """The folder, its lock file, and what :data:`_HELD` has of it."""
    path = folder.parent / f".{folder.name}.lock"
    return folder, path, (os.getpid(), threading.get_ident(), path.absolute())


@contextmanager
def _holding(lock: FileLock, path: Path, key: Key) -> Iterator[None]:
    """Say who holds a lock, and release it in the end."""
    _HELD.add(key)
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        _HELD.discard(key)
        path.unlink(missing_ok=True)  # before the release: whoever then locks the deleted file notices and retries
        lock.release()


def _acquire(path: Path, folder: Path, wait: bool) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=GRACE)
    except Timeout:
        message = f"{folder}: {_holder(path) or 'another process'} is writing there"
        if not wait:
            raise UserError(f"{message}; wait for it, or stop it (with --wait this command waits)") from None
        logger.info("%s; waiting for it", message)
        lock.acquire(timeout=-1, poll_interval=0.2)
    with suppress(OSError):
        if not re.match(rb"process |\d+\s|$", path.read_bytes()):
            lock.release()
            raise UserError(
                f"{path}: this name is needed for a lock, but the file is not one of ours; move it away"
            ) from None
    return lock


def _holder(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text()
    return ""
