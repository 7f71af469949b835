"""The manifest of a finished stage: its inputs, and every file it wrote, with size and hash.

    manifest.json       in each stage's folder; contains its own hash
    .fingerprint        the mark by which the toolkit recognises its folders, in the work folder first; repeats the list
                        of files, so that a damaged manifest costs nothing

Knows files and hashes; must not know how a stage is run or committed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files

logger = logging.getLogger("retrieval_distill")


class Entry(TypedDict):
    """A file as its stage wrote it: its size and its SHA-256, or of a large one that of a sample."""

    bytes: int
    sha256: NotRequired[str]
    sample: NotRequired[str]


Listed = dict[str, Entry]
"""Files by their names within the folder."""


class Manifest(TypedDict, total=False):
    """What a stage's folder was made from, and what that took, as ``manifest.json`` has it; empty: none."""

    stage: str
    """The stage's verb."""
    fingerprint: str
    """SHA-256 of its name and inputs."""
    inputs: dict[str, Any]
    """Everything that changes the result."""
    seconds: float
    peak_memory_bytes: int
    counts: dict[str, Any]
    """What the stage made; each has its own."""
    versions: dict[str, str]
    """Package -> its version."""
    format: int
    """:data:`FORMAT`; missing, as are the two that follow, in the first."""
    files: Listed
    checksum: str
    """Of all the rest."""
    skipped: bool
    """Whether the result was already there; not written."""


FORMAT = 2
"""The version of the layout. Manifests of format 1, which had no number, do not list the stage's files."""

FILE, MARK = "manifest.json", ".fingerprint"

BOOKKEEPING = (FILE, MARK)

LARGE, LARGE_IN_CACHE = 256 << 20, 32 << 20
"""Bytes above which a file is checked by a sample instead of in full. The limit for caches is lower: filling one may
take only seconds, in which hashing must not be noticeable."""

FOR_PEOPLE = (".md",)
"""Suffixes of files that the user may edit, because the toolkit never reads them."""

DESKTOPS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that desktops leave in every folder they open."""


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with its own hash, and its list of files into the mark."""
    rest = json.loads(json.dumps({name: of for name, of in manifest.items() if name != "checksum"}, default=str))
    lines = [rest["fingerprint"], rest["stage"], json.dumps(rest["files"]), files.fingerprint(rest["files"])]
    files.write_text(folder / MARK, "\n".join([*lines, ""]))
    files.write_json(folder / FILE, {**rest, "checksum": files.fingerprint(rest)})


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a finished stage; ``None``: no stage finished in this folder.

    Raises:
        UserError: The manifest is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        found = files.read_json(path)
    except UserError:
        if marked_fingerprint(path.parent) is None:
            return None
        raise _damaged_error(path) from None
    if not isinstance(found, dict) or not {"stage", "fingerprint", "counts"} <= found.keys():
        if marked_fingerprint(path.parent) is None:
            return None  # somebody else's file of that name
        raise _damaged_error(path)
    rest = {name: found[name] for name in found if name != "checksum"}
    if ("format" in found or "checksum" in found) and found.get("checksum") != files.fingerprint(rest):
        raise _damaged_error(path)
    return cast(Manifest, found)


def finished_manifest(folder: Path, mark: str) -> Manifest | None:
    """The manifest of a folder that holds the complete result of this fingerprint, or ``None``."""
    with suppress(UserError, OSError):
        manifest = read_manifest(folder)
        if manifest and manifest["fingerprint"] == mark and is_intact(folder, manifest):
            return manifest
    return None


def find(folder: Path) -> Manifest | None:
    """The manifest of a finished stage; ``None`` also if it is damaged or cannot be read."""
    with suppress(UserError, OSError):
        return read_manifest(folder)
    return None


def is_intact(folder: Path, manifest: Manifest) -> bool:
    """Whether all files of a finished stage are unchanged."""
    return next(find_damaged(folder, manifest.get("files", {})), None) is None


def write_mark(folder: Path, fingerprint: str, stage: str) -> None:
    """Mark a folder as written by a stage."""
    (folder / MARK).write_text(f"{fingerprint}\n{stage}\n", encoding="utf-8")


def marked_fingerprint(folder: Path) -> str | None:
    """The fingerprint of the stage that works, or worked, in a folder; ``None``: not a stage's folder."""
    return _read_mark(folder)[0]


def stage_of(folder: Path) -> str | None:
    """The name of that stage, empty if an older version did not write it; ``None``: not a stage's folder."""
    return _read_mark(folder)[1]


def listed_files(folder: Path) -> Listed | None:
    """The files that a stage wrote, according to its manifest or, if that is damaged, to its mark.

    ``None``: neither lists them, as in a folder of an older version.
    """
    if (manifest := find(folder)) is not None:
        return manifest.get("files")
    listed, checksum = _read_mark(folder)[2:]
    with suppress(ValueError, RecursionError):
        found = json.loads(listed)
        return found if files.fingerprint(found) == checksum else None
    return None


def _read_mark(folder: Path) -> tuple[str | None, str | None, str, str]:
    """The lines of a mark: fingerprint, stage, list of files, and the hash of that list."""
    with suppress(OSError, UnicodeDecodeError):
        fingerprint, stage, listed, checksum, *_ = [*(folder / MARK).read_text(encoding="utf-8").split("\n"), *[""] * 3]
        if re.fullmatch("[0-9a-f]{0,64}", fingerprint):
            return fingerprint, stage, listed, checksum
    return None, None, "", ""


def describe_files(folder: Path, scratch: Sequence[str] = (), cache: bool = False) -> Listed:
    """Every file of a folder by its name there, with size and hash; a file whose hash is known is not read again.

    Large files whose hash is not known get the hash of a sample. ``scratch`` is left out.
    """
    entry = partial(_entry, large=LARGE_IN_CACHE if cache else LARGE)
    with ThreadPoolExecutor() as pool:
        paths = [path for path in paths_in(folder) if path.relative_to(folder).parts[0] not in scratch]
        return dict(zip((name_in(folder, path) for path in paths), pool.map(entry, paths), strict=True))


def paths_in(folder: Path) -> Iterator[Path]:
    """Every file that a stage wrote into its folder, sorted."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and name_in(folder, path) not in BOOKKEEPING)


def name_in(folder: Path, path: Path) -> str:
    """A file's name within a folder, as manifests list it."""
    return path.relative_to(folder).as_posix()


def find_damaged(folder: Path, listed: Listed, deferred_prefix: str | None = None) -> Iterator[tuple[str, str]]:
    """The files that changed since they were written, each with its defect: ``"missing"`` or ``"altered"``.

    Args:
        folder: A finished stage's.
        listed: Its files, as its manifest lists them.
        deferred_prefix: Of files whose name begins so only the size is checked; ``None``: all are checked in full.
    """
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(_defect, folder, deferred_prefix), listed.items())
        yield from ((name, defect) for name, defect in zip(listed, found, strict=True) if defect)


def altered_file_error(path: Path, defect: str, stage: str, noun: str = "file") -> UserError:
    """The message about a file that changed since its stage wrote it.

    Args:
        path: The file.
        defect: ``"missing"`` or ``"altered"``.
        stage: The stage's name.
        noun: What the file is called.
    """
    problem = "is missing" if defect == "missing" else "was altered (its checksum does not match)"
    return UserError(f"{path}: this {noun} {problem}; run `{stage}`, which wrote it, again")


def altered_input_error(path: Path, defect: str, stage: str) -> UserError:
    """The same message for a folder that can be used without its manifest: a dataset or a model."""
    way_out = f", or remove {FILE} from the folder to use it as it is"
    return UserError(f"{altered_file_error(path, defect, stage)}{way_out}")


DamageMessage = Callable[[Path, str, str], UserError]
"""(path, ``"missing"`` or ``"altered"``, stage that wrote the file) -> the error to raise."""


def verified_manifest(
    folder: str | Path, deferred_prefix: str | None = None, message: DamageMessage = altered_file_error
) -> Manifest | None:
    """The manifest of a finished stage, after a check of its files; ``None``: no stage finished in this folder.

    Args:
        folder: Any folder.
        deferred_prefix: Files whose name begins so are checked later, on use; ``None``: all are checked now.
        message: Makes the error about a file.

    Raises:
        UserError: A file is missing or was altered, or the manifest is damaged.
    """
    folder = Path(folder)
    while (manifest := read_manifest(folder)) is not None:
        wrong = next(find_damaged(folder, manifest.get("files", {}), deferred_prefix), None)
        if wrong is None:
            return manifest
        if read_manifest(folder) == manifest:  # it was not replaced meanwhile
            raise message(folder / wrong[0], wrong[1], manifest["stage"])
    return None


def attach(folder: str | Path, name: str, text: str) -> Path:
    """Add a text file to a finished stage's folder and manifest, or replace the one added before.

    A file that was edited since is left alone, with a warning. Any other folder gets a plain file.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    folder = Path(folder)
    path, manifest = folder / name, read_manifest(folder)
    listed = manifest.get("files") if manifest else None
    if manifest is None or listed is None:
        return files.write_text(path, text)
    if path.is_file() and path.read_bytes() != text.encode() and name in listed and is_edited(folder, name, listed):
        logger.warning("%s was edited since it was written; it is left as it is", path)
        return path
    files.write_text(path, text)
    entry = _entry(path, LARGE)
    if listed.get(name) != entry:
        write(folder, {**manifest, "files": {**listed, name: entry}})
    return path


def is_edited(folder: Path, name: str, listed: Listed) -> bool:
    """Whether a file meant for people exists and was edited since it was written."""
    path = folder / name
    return path.suffix in FOR_PEOPLE and path.is_file() and files.checksum(path) != listed[name].get("sha256")


def foreign_files(folder: Path, listed: Listed) -> list[str]:
    """Files in a stage's folder that it did not write, or that were edited since."""
    there = [name_in(folder, path) for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    foreign = [name for name in there if name not in listed and name not in BOOKKEEPING and not is_clutter(Path(name))]
    return [*foreign, *(name for name in listed if is_edited(folder, name, listed))]


def is_clutter(path: Path) -> bool:
    """Whether a file may be deleted: left by a desktop, or unfinished by a killed process."""
    return path.name in DESKTOPS or (path.name.startswith(files.TEMPORARY) and files.is_unfinished(path))


def _entry(path: Path, large: int) -> Entry:
    size, known = path.stat().st_size, files.known_checksum(path)
    entry: Entry = {"bytes": size}
    if known is not None or size <= large:
        entry["sha256"] = known or files.checksum(path)
    if size > large:
        entry["sample"] = files.sample_checksum(path)
    return entry


def _defect(folder: Path, deferred_prefix: str | None, item: tuple[str, Entry]) -> str | None:
    name, entry = item
    path = folder / name
    if path.suffix in FOR_PEOPLE:
        return None
    try:
        if not path.is_file():
            return "missing"
        if path.stat().st_size != entry["bytes"]:
            return "altered"
        if deferred_prefix is not None and name.startswith(deferred_prefix):
            return None
        now = files.sample_checksum(path) if "sample" in entry else files.checksum(path)
        return None if now == (entry.get("sample") or entry["sha256"]) else "altered"
    except FileNotFoundError:  # removed while it was being checked
        return "missing"


def _damaged_error(path: Path) -> UserError:
    return UserError(f"{path}: this manifest is damaged; run the command that wrote it again")
