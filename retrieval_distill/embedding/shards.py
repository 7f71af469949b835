"""Shards: files of vectors, each committed atomically and named by its position and its checksum.

    vectors-00003-0f4c...e1.npy     shard 3; the rest of the name is the first half of its SHA-256

So hashing a shard again shows whether it was altered, an unfinished one has no such name, and two processes that make
the same shard make the same file. Knows arrays and files; must not know texts, ids or models.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import files, manifests

PREFIX = "vectors-"
"""Prefix of the names of shards."""


@dataclass(frozen=True)
class Shard:
    """A file of ``rows`` stored vectors."""

    path: Path
    rows: int

    @property
    def number(self) -> int:
        """Position among the shards of a folder, counted from 0."""
        return int(self.path.stem.split("-")[1])

    @property
    def checksum(self) -> str:
        """The checksum in its name."""
        return self.path.stem.rpartition("-")[2]

    def verify(self) -> None:
        """Compare the file with the checksum in its name.

        Raises:
            UserError: It is missing or was altered.
        """
        if not self.path.is_file():
            raise altered_shard_error(self.path, "missing", "embed")
        if not files.checksum(self.path).startswith(self.checksum):
            raise altered_shard_error(self.path, "altered", "embed")

    def open(self) -> np.ndarray:
        """The stored vectors, memory-mapped: [rows, any]."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)


def altered_shard_error(path: Path, defect: str, stage: str) -> UserError:
    """The message about a missing or altered file in a folder of vectors."""
    return manifests.altered_file_error(path, defect, stage, "shard" if path.name.startswith(PREFIX) else "file")


def write(folder: Path, number: int, stored: np.ndarray) -> Shard:
    """Commit a shard; once this returns, it survives a crash or power cut."""
    temporary = files.temporary_path(folder)
    try:
        with temporary.open("wb") as file:
            header = np.lib.format.header_data_from_array_1_0(stored)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(stored).data)  # np.save would hide that the disk is full
            file.flush()
            os.fsync(file.fileno())
        checksum = files.checksum(temporary)
        path = folder / _name(number, checksum)
        temporary.replace(path)
        files.remember_checksum(path, checksum)
    finally:
        temporary.unlink(missing_ok=True)
    return Shard(path, len(stored))


def link(shard: Shard, folder: Path, number: int) -> Shard:
    """Hard-link a shard of another folder into this one, or copy it where links are not possible."""
    checksum = files.checksum(shard.path)
    path = folder / _name(number, checksum)
    path.unlink(missing_ok=True)
    try:
        os.link(shard.path, path)
    except OSError:  # a file system without links
        shutil.copyfile(shard.path, path)
    files.remember_checksum(path, checksum)
    return Shard(path, shard.rows)


def recover(folder: Path) -> dict[int, Shard]:
    """The complete shards in a folder, by number; incomplete ones are removed."""
    found = {}
    for path in sorted(folder.glob(f"{PREFIX}*")):
        shard, checksum = Shard(path, 0), files.checksum(path)
        if checksum.startswith(shard.checksum):
            files.remember_checksum(path, checksum)
            found[shard.number] = Shard(path, len(shard.open()))
    for path in {*folder.glob(f"{PREFIX}*"), *folder.glob(f"{files.TEMPORARY}*")} - {s.path for s in found.values()}:
        path.unlink()
    return found


def describe(shards: Iterable[Shard]) -> list[dict[str, object]]:
    """The entries of ``shards.json``."""
    return [{"file": shard.path.name, "rows": shard.rows} for shard in shards]


def _name(number: int, checksum: str) -> str:
    return f"{PREFIX}{number:05d}-{checksum[:32]}.npy"
