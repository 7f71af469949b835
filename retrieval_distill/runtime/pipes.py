"""Devices, pipes and standard streams: targets that are written to, not replaced like files.

Knows the system's streams; must not know what is written.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe or a standard stream, which is written to and not replaced."""
    try:
        return path.exists() and (_standard(path) is not None or not (path.is_file() or path.is_dir()))
    except OSError:  # not accessible: the error is reported when it is written
        return False


def _standard(path: Path) -> int | None:
    """The file descriptor of this process's standard output or error, if the path is one of them."""
    for number in (1, 2):
        try:
            if os.path.samestat(path.stat(), os.fstat(number)):
                return number
        except OSError:  # that stream is closed
            continue
    return None


def copy_to_stream(temporary: Path, stream: Path) -> None:
    """Write a file to a stream. A standard one is flushed and shared, so that output stays in order."""
    number = _standard(stream)
    for printed in (sys.stdout, sys.stderr):
        if number is not None and printed is not None:
            printed.flush()
    with temporary.open("rb") as source, open(stream if number is None else os.dup(number), "wb") as out:  # noqa: PTH123
        shutil.copyfileobj(source, out)
