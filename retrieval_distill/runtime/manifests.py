"""The manifest of a finished stage: what it was made from, and every file it left, with its size and its hash.

    manifest.json       in each stage's folder, hashed itself
    .fingerprint        there too, and in the work folder before: the mark by which the toolkit knows its folders, with
                        the list of files a second time, so that a damaged manifest costs nothing

Knows files and hashes; must not know how a stage is run or committed.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files

logger = logging.getLogger("retrieval_distill")

Manifest = dict[str, Any]
"""``stage``, ``fingerprint``, ``inputs``, ``seconds``, ``peak_memory_bytes``, ``counts``, ``versions``; since format 2
also ``format``, ``files`` (name within the folder -> ``bytes`` and ``sha256``, or of a large one ``sample``) and
``checksum``, of all the rest of it."""

FORMAT = 2
"""The layout that this version writes. Manifests of the first, which had no number, do not name the stage's files."""

FILE, MARK = "manifest.json", ".fingerprint"

OWN = (FILE, MARK)

LARGE, LARGE_IN_CACHE = 256 << 20, 32 << 20
"""Bytes of a file from which it is compared by a sample; of a smaller one all bytes are. What fills a cache may cost a
few seconds in all, and hashing must not be felt in them."""

FOR_PEOPLE = (".md",)
"""Endings of files that may be edited, because nothing is read from them."""

DESKTOPS = (".DS_Store", "Thumbs.db", "desktop.ini")
"""Files that desktops leave in every folder that is looked at."""


Listed = dict[str, dict[str, Any]]
"""Name of a file within the folder -> its ``bytes``, and ``sha256`` or ``sample``."""


def write(folder: Path, manifest: Manifest) -> None:
    """Write a manifest with the hash of itself, and its list of files into the mark."""
    rest = json.loads(json.dumps({name: manifest[name] for name in manifest if name != "checksum"}, default=str))
    lines = [rest["fingerprint"], rest["stage"], json.dumps(rest["files"]), files.fingerprint(rest["files"])]
    files.write_text(folder / MARK, "\n".join([*lines, ""]))
    files.write_json(folder / FILE, {**rest, "checksum": files.fingerprint(rest)})


def read_manifest(folder: str | Path) -> Manifest | None:
    """The manifest of a finished stage, or ``None``: the folder is none that a stage finished.

    Raises:
        UserError: The manifest is damaged.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        found = files.read_json(path)
    except UserError:
        if mark(path.parent) is None:
            return None
        raise _damaged(path) from None
    if not isinstance(found, dict) or not {"stage", "fingerprint", "counts"} <= found.keys():
        if mark(path.parent) is None:
            return None  # somebody else's file of that name
        raise _damaged(path)
    rest = {name: found[name] for name in found if name != "checksum"}
    if ("format" in found or "checksum" in found) and found.get("checksum") != files.fingerprint(rest):
        raise _damaged(path)
    return found


def find(folder: Path) -> Manifest | None:
    """The manifest of a finished stage; a damaged one, or one that cannot be read, is as good as none."""
    with suppress(UserError, OSError):
        return read_manifest(folder)
    return None


def is_whole(folder: Path, manifest: Manifest) -> bool:
    """Whether all files of a finished stage are as they were written."""
    return next(damaged(folder, manifest.get("files", {})), None) is None


def sign(folder: Path, fingerprint: str, stage: str) -> None:
    """Mark a folder as a stage's."""
    (folder / MARK).write_text(f"{fingerprint}\n{stage}\n", encoding="utf-8")


def mark(folder: Path) -> str | None:
    """The fingerprint of the stage that works, or worked, in a folder; ``None``: no stage's folder."""
    return _signed(folder)[0]


def stage_of(folder: Path) -> str | None:
    """The name of that stage, empty where an older version did not say it; ``None``: no stage's folder."""
    return _signed(folder)[1]


def listing(folder: Path) -> Listed | None:
    """The files that a stage left in its folder, by its manifest or, where that is damaged, by its mark.

    ``None``: neither tells, as in a folder of an older version.
    """
    if (manifest := find(folder)) is not None:
        return manifest.get("files")
    listed, checksum = _signed(folder)[2:]
    with suppress(ValueError, RecursionError):
        found = json.loads(listed)
        return found if files.fingerprint(found) == checksum else None
    return None


def _signed(folder: Path) -> tuple[str | None, str | None, str, str]:
    """The lines of a mark: fingerprint, stage, list of files and its hash."""
    with suppress(OSError, UnicodeDecodeError):
        fingerprint, stage, listed, checksum, *_ = [*(folder / MARK).read_text(encoding="utf-8").split("\n"), *[""] * 3]
        if re.fullmatch("[0-9a-f]{0,64}", fingerprint):
            return fingerprint, stage, listed, checksum
    return None, None, "", ""


def record(folder: Path, scratch: Sequence[str] = (), cache: bool = False) -> Listed:
    """Every file of a folder by its name there, with its size and hash; those written with a noted hash are not read.

    Large ones whose hash was not noted get the hash of a sample. What is in ``scratch`` is no part of the result.
    """
    entry = partial(_entry, large=LARGE_IN_CACHE if cache else LARGE)
    with ThreadPoolExecutor() as pool:
        paths = [path for path in paths_in(folder) if path.relative_to(folder).parts[0] not in scratch]
        return dict(zip((name_in(folder, path) for path in paths), pool.map(entry, paths), strict=True))


def paths_in(folder: Path) -> Iterator[Path]:
    """Every file that a stage left in its folder, in order."""
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and name_in(folder, path) not in OWN)


def name_in(folder: Path, path: Path) -> str:
    """A file's name within a folder, as manifests have it."""
    return path.relative_to(folder).as_posix()


def damaged(folder: Path, listed: Listed, later: str | None = None) -> Iterator[tuple[str, str]]:
    """The files that are not as they were written, each with what is wrong: ``"missing"`` or ``"altered"``.

    Args:
        folder: A finished stage's.
        listed: Its files, as its manifest names them.
        later: How the names of files begin of which only the sizes are compared here; ``None``: there are none.
    """
    with ThreadPoolExecutor() as pool:
        found = pool.map(partial(_defect, folder, later), listed.items())
        yield from ((name, defect) for name, defect in zip(listed, found, strict=True) if defect)


def altered(path: Path, defect: str, stage: str, noun: str = "file") -> UserError:
    """The message about a file that is not as its stage wrote it.

    Args:
        path: The file.
        defect: ``"missing"`` or ``"altered"``.
        stage: The stage's name.
        noun: What the file is called.
    """
    said = "is missing" if defect == "missing" else "was altered, its checksum does not agree"
    return UserError(f"{path}: this {noun} {said}; run what wrote it (`{stage}`) again, which makes it anew")


def altered_but_useful(path: Path, defect: str, stage: str) -> UserError:
    """The message about a file of a folder that would do without a manifest: a dataset's, or a model's."""
    way_out = f"; or remove {FILE} from the folder, to use it as it is now"
    return UserError(f"{altered(path, defect, stage)}{way_out}")


Told = Callable[[Path, str, str], UserError]
"""The message about a file: where it is, ``"missing"`` or ``"altered"``, and the name of the stage that wrote it."""


def opened(folder: str | Path, later: str | None = None, told: Told = altered) -> Manifest | None:
    """The manifest of a finished stage whose files are as they were written; ``None``: no finished stage's folder.

    Args:
        folder: Where a stage's result is, or anything else.
        later: How the names of files begin whose bytes are compared later, when they are used; ``None``: there are
            none.
        told: What to say of a file.

    Raises:
        UserError: A file is missing or was altered, or the manifest is damaged.
    """
    folder = Path(folder)
    while (manifest := read_manifest(folder)) is not None:
        wrong = next(damaged(folder, manifest.get("files", {}), later), None)
        if wrong is None:
            return manifest
        if read_manifest(folder) == manifest:  # it was not replaced meanwhile
            raise told(folder / wrong[0], wrong[1], manifest["stage"])
    return None


def attach(folder: str | Path, name: str, text: str) -> Path:
    """Add a text to a finished stage's folder as one of its files, or put it in the place of the one added before.

    One that was edited since is left as it is, with a warning. In a folder of no stage it is a file like any other.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    folder = Path(folder)
    path, manifest = folder / name, read_manifest(folder)
    listed = manifest.get("files") if manifest else None
    if manifest is None or listed is None:
        return files.write_text(path, text)
    if path.is_file() and path.read_bytes() != text.encode() and name in listed and edited(folder, name, listed):
        logger.warning("%s was edited since it was written: left as it is", path)
        return path
    files.write_text(path, text)
    entry = _entry(path, LARGE)
    if listed.get(name) != entry:
        write(folder, {**manifest, "files": {**listed, name: entry}})
    return path


def edited(folder: Path, name: str, listed: Mapping[str, Any]) -> bool:
    """Whether a file for people is there with other contents than those that it was written with."""
    path = folder / name
    return path.suffix in FOR_PEOPLE and path.is_file() and files.checksum(path) != listed[name].get("sha256")


def strangers(folder: Path, listed: Listed) -> list[str]:
    """Names of files in a stage's folder that it did not write, or that were edited since."""
    there = [name_in(folder, path) for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    foreign = [name for name in there if name not in listed and name not in OWN and not is_nobodys(Path(name))]
    return [*foreign, *(name for name in listed if edited(folder, name, listed))]


def is_nobodys(path: Path) -> bool:
    """Whether a file is nobody's work: a desktop's, or one that a killed process had not finished."""
    return path.name in DESKTOPS or (path.name.startswith(files.TEMPORARY) and files.is_unfinished(path))


def _entry(path: Path, large: int) -> dict[str, Any]:
    size, known = path.stat().st_size, files.written(path)
    entry: dict[str, Any] = {"bytes": size}
    if known is not None or size <= large:
        entry["sha256"] = known or files.checksum(path)
    if size > large:
        entry["sample"] = files.sample(path)
    return entry


def _defect(folder: Path, later: str | None, item: tuple[str, Mapping[str, Any]]) -> str | None:
    name, entry = item
    path = folder / name
    if path.suffix in FOR_PEOPLE:
        return None
    try:
        if not path.is_file():
            return "missing"
        if path.stat().st_size != entry["bytes"]:
            return "altered"
        if later is not None and name.startswith(later):
            return None
        now = files.sample(path) if "sample" in entry else files.checksum(path)
        return None if now == (entry.get("sample") or entry["sha256"]) else "altered"
    except FileNotFoundError:  # gone while it was looked at
        return "missing"


def _damaged(path: Path) -> UserError:
    return UserError(f"{path}: this manifest is damaged; run the command that wrote it again, which makes it anew")
