"""Atomic files: written under a temporary name, flushed to disk, then renamed. Also their checksums.

    .tmp-PID@HOST-HEX       an unfinished file, which nobody reads

Knows bytes and names; must not know what a file holds, or what a stage is.
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
"""Prefix of the names of unfinished files."""

HOST = re.sub(r"[^\w.]+", "_", socket.gethostname(), flags=re.ASCII) or "host"

SYNC_ALL_ABOVE = 2000
"""Number of files above which flushing all disks at once is faster than flushing each file."""

SAMPLE_PLACES, SAMPLE_BYTES = 256, 4096
"""Number of places at which a large file is sampled, and bytes read at each."""

_UNSETTLED = 2_000_000_000
"""Nanoseconds after a change within which another may go unnoticed: file-system clocks tick slowly."""

_HASHED: dict[tuple[int, ...], str] = {}
"""State of a file -> its SHA-256. A state is stored only once it is old enough to show every later change."""

_WRITTEN: dict[tuple[int, ...], str] = {}
"""State of a file -> the SHA-256 of what this process just wrote into it."""


def fingerprint(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fingerprint_files(folder: str | Path, patterns: tuple[str, ...] = ("*",)) -> str:
    """SHA-256 of the names and bytes of a folder's files (recursive; without dot files and Markdown)."""
    folder, digest = Path(folder), hashlib.sha256()
    for path in sorted(p for pattern in patterns for p in folder.rglob(pattern) if p.is_file()):
        if path.suffix == ".md" or path.name.startswith(".") or path.name == "manifest.json":
            continue
        digest.update(f"{path.relative_to(folder)}:{checksum(path)};".encode())
    return digest.hexdigest()


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A temporary path to write, which replaces ``path`` atomically: readers see the old file or the new one.

    When the block ends, the file is flushed to disk and then renamed; if it fails, the old file is untouched. The
    temporary path has the suffix of ``path``. A link is followed; a device or a pipe is written to directly.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    path = Path(path)
    with disk.explain_full_disk(path):
        stream = pipes.is_stream(path)
        target = Path(tempfile.gettempdir()) / "stream" if stream else Path(os.path.realpath(path))
        if not stream and target.is_dir():
            raise UserError(f"{path}: this is a folder; give the name of a file")
        make_folder(target.parent)
        sweep_once(target.parent)
        temporary = temporary_path(target.parent, target.suffix)
        try:
            temporary.touch()  # fail before the expensive work if nothing can be written here
            yield temporary
            if stream:
                pipes.copy_to_stream(temporary, path)
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
    """Remove the unfinished files of killed processes from a folder, at most once in this process."""
    if folder not in _SWEPT:
        _SWEPT.add(folder)
        remove_abandoned(path for path in folder.glob(f"{TEMPORARY}*@*") if path.is_file())


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file atomically; a file that already holds this text is left alone.

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
    """Write a JSON file atomically.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=str, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: The file is not JSON.
    """
    try:
        return json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: this file is damaged: not JSON ({error})") from None


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, each flushed to disk before the next."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        try:
            path.mkdir(exist_ok=True)
        except FileNotFoundError as error:  # the parent exists but takes no folders, as in /proc
            raise disk.unwritable_error(folder, error) from error
        sync(path.parent)


def temporary_path(folder: Path, suffix: str = "") -> Path:
    """A name for an unfinished file, unique to this call."""
    return folder / f"{TEMPORARY}{owner_tag()}{suffix}"


def owner_tag() -> str:
    """A unique tag that names the process a file or folder belongs to: ``PID@HOST-HEX``."""
    return f"{os.getpid()}@{HOST}-{secrets.token_hex(4)}"


def remove_abandoned(paths: Iterable[Path]) -> None:
    """Remove those of these files that are unfinished and whose process has ended."""
    for path in paths:
        if is_unfinished(path) and is_abandoned(path):
            with suppress(OSError):
                path.unlink()


_OWNER = re.compile(r"[.-](\d+)(?:@([\w.]+)-[0-9a-f]{8}|-[0-9a-f]{8})?(?:\.\w+)?$", re.ASCII)


def is_unfinished(path: Path) -> bool:
    """Whether a file is unfinished, by its name in this version or an older one."""
    return _OWNER.search(path.name) is not None and (
        path.name.startswith(TEMPORARY) or re.fullmatch(r"\..+\.json\.\d+", path.name) is not None
    )


def is_abandoned(path: Path) -> bool:
    """Whether the process that an unfinished file or folder belongs to has ended.

    A process on another machine cannot be checked; its files count as abandoned after a day.
    """
    named = _OWNER.search(path.name)
    if named is None:
        return False
    number, host = named.groups()
    if host in (None, HOST):
        return not _runs(int(number))
    with suppress(OSError):
        return time.time() - path.stat().st_mtime > 86_400
    return False


def _runs(process: int) -> bool:
    """Whether this machine runs a process of that number; on Windows, which cannot be asked so, it is taken to."""
    try:
        if os.name != "nt":
            os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        pass
    return True


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk (Windows cannot do this for a folder)."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Wait until a folder and everything in it is on disk."""
    inside = [path for path in folder.rglob("*") if not path.is_symlink()]
    if len(inside) > SYNC_ALL_ABOVE and hasattr(os, "sync"):
        os.sync()
        return
    for path in [*inside, folder]:
        if path.is_file() or path.is_dir():
            sync(path)


CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "retrieval-distill"
"""Default place for datasets that are built, downloaded or unpacked."""


def identity(path: Path) -> dict[str, Any]:
    """What identifies a state of a file, as a stage's input."""
    stat = path.stat()
    return {
        "path": str(path.resolve()),
        "size": stat.st_size,
        "modified": stat.st_mtime_ns,
        "sample": sample_checksum(path),
    }


def checksum(path: Path) -> str:
    """SHA-256 of a file's bytes; taken from memory if this process hashed the file and it is untouched since."""
    state = _state(path)
    if (known := _HASHED.get(state)) is None:
        with path.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - state[-1] > _UNSETTLED:
            _HASHED[state] = known
    return known


def remember_checksum(path: Path, sha256: str) -> str:
    """Store the hash of a file just written, so that it need not be read again; see :func:`known_checksum`."""
    _WRITTEN[_state(path)] = sha256
    return sha256


def known_checksum(path: Path) -> str | None:
    """The hash stored by :func:`remember_checksum`, if the file is untouched since; otherwise ``None``."""
    return _WRITTEN.get(_state(path))


def sample_checksum(path: Path, places: int = SAMPLE_PLACES) -> str:
    """SHA-256 of a file's size and of its bytes at evenly spaced places, including its beginning and end.

    Covers every byte of a small file. In a large one a change of a few bytes between the places goes unnoticed, but not
    a truncated file, a lost block or a rewritten file.
    """
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        if size <= places * SAMPLE_BYTES:
            digest.update(file.read())
        else:
            for place in range(places):
                file.seek((size - SAMPLE_BYTES) * place // max(1, places - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, ...]:
    """Values of which one changes whenever the file does; the last is the time of the change."""
    stat = path.stat()
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
