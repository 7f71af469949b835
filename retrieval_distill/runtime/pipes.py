"""Devices, pipes and standard streams: what is written to, where a file would be replaced.

Knows streams of the system; must not know what is written.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def is_stream(path: Path) -> bool:
    """Whether a path leads to something that is written to, not replaced."""
    try:
        return path.exists() and (_standard(path) is not None or not (path.is_file() or path.is_dir()))
    except OSError:  # not to be looked at: what is wrong is said when it is written
        return False


def _standard(path: Path) -> int | None:
    """The number of this process's standard output or error, if that is where the path leads."""
    for number in (1, 2):
        try:
            if os.path.samestat(path.stat(), os.fstat(number)):
                return number
        except OSError:  # that stream is closed
            continue
    return None


def pour(temporary: Path, stream: Path) -> None:
    """Write to a stream; a standard one is shared, so that what is printed before and after stays in order."""
    number = _standard(stream)
    for printed in (sys.stdout, sys.stderr):
        if number is not None and printed is not None:
            printed.flush()
    with temporary.open("rb") as written, open(stream if number is None else os.dup(number), "wb") as out:  # noqa: PTH123
        shutil.copyfileobj(written, out)
