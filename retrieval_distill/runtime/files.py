"""Files that are whole or not there: written under another name, on disk before they take their own.

    .tmp-PID@HOST-HEX       an unfinished file, which nobody reads

Also the digests that tell whether a file is still as it was written. Knows bytes and names; must not know what a file
holds, or what a stage is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import disk, pipes

TEMPORARY = ".tmp-"
"""How the names of unfinished files begin."""

HOST = re.sub(r"[^\w.]+", "_", socket.gethostname(), flags=re.ASCII) or "host"

MANY = 2000
"""Files from which one call that flushes all disks is faster than one call for each file."""

SAMPLED, SAMPLE = 256, 4096
"""Places at which a large file is looked at, and bytes read at each."""

_UNSETTLED = 2_000_000_000
"""Nanoseconds after a change in which another one may go unseen: clocks of file systems tick slowly."""

_HASHED: dict[tuple[int, ...], str] = {}
"""State of a file -> the SHA-256 it had; a state is only kept once it is old enough to tell every change."""

_WRITTEN: dict[tuple[int, ...], str] = {}
"""State of a file -> the SHA-256 of what was just written into it."""


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fingerprint_files(folder: str | Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """SHA-256 of the names and bytes of a folder's files (recursive; dot files and Markdown are left out)."""
    folder, digest = Path(folder), hashlib.sha256()
    for path in sorted(p for pattern in patterns for p in folder.rglob(pattern) if p.is_file()):
        if path.suffix == ".md" or path.name.startswith(".") or path.name == "manifest.json":
            continue
        digest.update(f"{path.relative_to(folder)}:{checksum(path)};".encode())
    return digest.hexdigest()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A name to write a file under, which takes its place all at once: readers see the old file or the new one.

    When the block ends, what was written is on disk before it is renamed; if it fails, the old file is as it was. The
    name has the ending of the file's own. A link is followed; a device or a pipe is written as it is.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    path = Path(path)
    with disk.room(path):
        stream = pipes.is_stream(path)
        target = Path(tempfile.gettempdir()) / "stream" if stream else Path(os.path.realpath(path))
        if not stream and target.is_dir():
            raise UserError(f"{path}: this is a folder; give the name of a file")
        make_folder(target.parent)
        sweep_once(target.parent)
        temporary = unfinished(target.parent, target.suffix)
        try:
            temporary.touch()  # shows whether anything can be written here before it costs
            yield temporary
            if stream:
                pipes.pour(temporary, path)
                return
            sync(temporary)
            if target.is_file():
                shutil.copymode(target, temporary)
            temporary.replace(target)
            sync(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


_SWEPT: set[Path] = set()


def sweep_once(folder: Path) -> None:
    """Remove what killed processes left in a folder that anybody may use, so that only names unlike others count."""
    if folder not in _SWEPT:
        _SWEPT.add(folder)
        sweep(path for path in folder.glob(f"{TEMPORARY}*@*") if path.is_file())


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file that is either the old one or the new one; one that holds this text already is left alone.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    path = Path(path)
    with suppress(OSError, ValueError):
        if path.is_file() and path.read_bytes() == text.encode():
            return path
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return path


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON so that the file is either the old one or the new one, never half of it.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: It is not JSON: it was altered since it was written.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this file is damaged, it is not JSON ({error})") from None


def make_folder(folder: Path) -> None:
    """Make a folder, and those it lies in, as far as they are missing; each is on disk before the next."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        try:
            path.mkdir(exist_ok=True)
        except FileNotFoundError as error:  # what it lies in is there, and takes no folders, as /proc
            raise disk.unwritable(folder, error) from error
        sync(path.parent)


def unfinished(folder: Path, suffix: str = "") -> Path:
    """A name for a file in the making, that no other process uses."""
    return folder / f"{TEMPORARY}{owner()}{suffix}"


def owner() -> str:
    """A part of a name that says which process a file or folder belongs to, unlike any other: ``PID@HOST-HEX``."""
    return f"{os.getpid()}@{HOST}-{secrets.token_hex(4)}"


def sweep(paths: Iterable[Path]) -> None:
    """Remove those of these files that are unfinished and whose processes are gone."""
    for path in paths:
        if is_unfinished(path) and left_behind(path):
            with suppress(OSError):
                path.unlink()


_OWNER = re.compile(r"[.-](\d+)(?:@([\w.]+)-[0-9a-f]{8}|-[0-9a-f]{8})?(?:\.\w+)?$", re.ASCII)


def is_unfinished(path: Path) -> bool:
    """Whether a name is one of unfinished files, of this version or an older one."""
    return _OWNER.search(path.name) is not None and (
        path.name.startswith(TEMPORARY) or re.fullmatch(r"\..+\.json\.\d+", path.name) is not None
    )


def left_behind(path: Path) -> bool:
    """Whether the process that an unfinished file or folder is named for has ended.

    Of a process on another machine, which cannot be asked, nothing is left after a day.
    """
    import psutil  # slow to import

    named = _OWNER.search(path.name)
    if named is None:
        return False
    number, host = named.groups()
    if host in (None, HOST):
        return not psutil.pid_exists(int(number))
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > 86_400
    return False


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk (Windows cannot sync a folder)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until all files and folders within a folder, and it itself, are on disk."""
    inside = [path for path in folder.rglob("*") if not path.is_symlink()]
    if len(inside) > MANY and hasattr(os, "sync"):
        os.sync()
        return
    for path in [*inside, folder]:
        if path.is_file() or path.is_dir():
            sync(path)


CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "retrieval-distill"
"""Keeps datasets that are built, downloaded or unpacked, where nothing else is said."""


def identity(path: Path) -> dict[str, Any]:
    """What tells one state of a file from another, as a stage's input."""
    seen = path.stat()
    return {"path": str(path.resolve()), "size": seen.st_size, "modified": seen.st_mtime_ns, "sample": sample(path)}


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes; of a file that this process hashed before and that is untouched since, from memory."""
    state = _state(path)
    if (known := _HASHED.get(state)) is None:
        with path.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - state[-1] > _UNSETTLED:
            _HASHED[state] = known
    return known


def remember(path: Path, sha256: str) -> str:
    """Note the hash of what was just written into a file, so that it need not be read for it: see :func:`written`."""
    _WRITTEN[_state(path)] = sha256
    return sha256


def written(path: Path) -> str | None:
    """The hash of what this process wrote into a file, if it was noted and nobody has touched the file since."""
    return _WRITTEN.get(_state(path))


def sample(path: Path, places: int = SAMPLED) -> str:
    """SHA-256 of a file's size and of its bytes at evenly spaced places, the first and the last among them.

    Of a small file these are all its bytes. Of a large one a few bytes between the places may change unseen; one that
    was cut, lost a block or was written anew shows.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= places * SAMPLE:
            digest.update(file.read())
        else:
            for place in range(places):
                file.seek((size - SAMPLE) * place // max(1, places - 1))
                digest.update(file.read(SAMPLE))
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, ...]:
    """What changes when a file does; the last is when it did."""
    seen = path.stat()
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
