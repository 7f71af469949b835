"""Files that are whole or not there: written beside their place, synced to disk, then renamed into it.

Knows files of the system; must not know what is in them.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import disk


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """A temporary file to write, which is put in the place of ``path`` when the block ends without an error.

    A crash, a full disk or a power cut leaves the file that was there before, or the new one. Of a link, the file
    that it points to is replaced. A device, a pipe or a standard stream of this process is no file that could be
    replaced: it is written to.

    Args:
        path: Where the file belongs; its folder is made if it is not there.

    Raises:
        UserError: ``path`` is a folder or cannot be written, or the disk is full.
    """
    path = Path(path)
    stream = _is_stream(path)
    place = Path(tempfile.gettempdir()) / "stream" if stream else Path(os.path.realpath(path))
    temporary = _beside(place, path)
    try:
        with disk.room(path, "and nothing there was changed"):
            yield temporary
            if stream:
                _pour(temporary, path)
            else:
                sync(temporary)
                temporary.replace(place)
                sync(place.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk (Windows cannot sync a folder)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if path.is_file() else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(place: Path, path: Path) -> Path:
    """An empty file beside ``place``, which shows whether the folder can be written before anything costs."""
    temporary = place.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        if place.is_dir():
            raise UserError(f"{path}: this is a folder; give the name of a file")
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise UserError(f"{path}: cannot be written here: {error.strerror or error}") from None
    return temporary


def _is_stream(path: Path) -> bool:
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


def _pour(temporary: Path, stream: Path) -> None:
    """Write to a stream; a standard one is shared, so that what is printed before and after stays in order."""
    number = _standard(stream)
    for printed in (sys.stdout, sys.stderr):
        if number is not None and printed is not None:
            printed.flush()
    with temporary.open("rb") as written, open(stream if number is None else os.dup(number), "wb") as out:  # noqa: PTH123
        shutil.copyfileobj(written, out)
