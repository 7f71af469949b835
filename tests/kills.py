"""Work that is killed at a chosen moment: in a child of a warm process, before its n-th act upon files.

An act is what changes a folder: a file opened to be written, a rename, a removal, a new folder. So every state that a
kill can leave behind is met, whatever the clock does; a program of a test forks before it computes anything.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

ACTS = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate"}

WRITES = os.O_WRONLY | os.O_RDWR


_acts = 0


def done() -> int:
    """How many acts this child has done."""
    return _acts


def attempt(work: Callable[[], Any], moment: int | None = None) -> int | None:
    """Run ``work`` in a child, killed before its ``moment``-th act; ``None``: never.

    Returns:
        How many acts it did, or ``None`` if it was killed.
    """
    reading, writing = os.pipe()
    sys.stdout.flush()
    gc.freeze()  # else every stage in a child would walk, and so copy, the libraries' own objects
    if (child := os.fork()) == 0:

        def count(event: str, given: tuple) -> None:
            global _acts
            if event in ACTS or (event == "open" and isinstance(given[2], int) and given[2] & WRITES):
                _acts += 1
                if _acts == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os.write(writing, str(_acts).encode())
        os._exit(0)
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as told:
        said = told.read()
    assert status in (0, signal.SIGKILL), f"the child ended with status {status}"
    return int(said) if status == 0 else None


def files(folder: Path, *left_out: str) -> dict[str, str]:
    """Hash of every file of a folder by name; the manifest, which holds times, hidden files and these are left out."""
    hashes = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and path.name not in ("manifest.json", *left_out):
            hashes[str(path.relative_to(folder))] = sha256(path.read_bytes()).hexdigest()
    return hashes
