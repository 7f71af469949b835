"""One process at a time on a folder.

Knows locks of the file system; must not know what the folder is for. The system drops a lock when its holder ends,
however it ends, so a lock file that a killed process left behind stops nobody.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import processes


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Hold a folder for this process, by ``.NAME.lock`` beside it.

    Of processes that were started together the first holds it for all.

    Raises:
        UserError: Another process holds it; the message names it.
    """
    if processes.rank() > 0:
        yield
        return
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / f".{folder.name}.lock"
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        holder = path.read_text() if path.is_file() else ""
        raise UserError(f"{folder}: {holder or 'another process'} is writing there; wait for it, or stop it") from None
    try:
        path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()
