"""Shards: the files that vectors lie in, each committed at once and named for its place and its bytes.

    vectors-00003-0f4c...e1.npy     shard 3; the rest of the name is the first half of its SHA-256

So a shard that was altered shows by hashing it again, one that is half written has no such name, and two processes
that made the same shard made the same file. Knows arrays and files; must not know texts, ids or models.
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

NAMED = "vectors-"
"""How the names of shards begin."""


@dataclass(frozen=True)
class Shard:
    """A file of ``rows`` stored vectors."""

    path: Path
    rows: int

    @property
    def number(self) -> int:
        """Its place among the shards of a folder, counted from 0."""
        return int(self.path.stem.split("-")[1])

    @property
    def checksum(self) -> str:
        """Of its bytes, as its name says."""
        return self.path.stem.rpartition("-")[2]

    def verify(self) -> None:
        """Hash the file.

        Raises:
            UserError: It is missing, or its bytes are not those it was written with.
        """
        if not self.path.is_file():
            raise altered(self.path, "missing", "embed")
        if not files.checksum(self.path).startswith(self.checksum):
            raise altered(self.path, "altered", "embed")

    def open(self) -> np.ndarray:
        """The stored vectors, memory-mapped: [rows, any]."""
        return np.load(self.path, mmap_mode="r", allow_pickle=False)


def altered(path: Path, defect: str, stage: str) -> UserError:
    """The message about a file of a folder of vectors."""
    return manifests.altered(path, defect, stage, "shard" if path.name.startswith(NAMED) else "file")


def write(folder: Path, number: int, stored: np.ndarray) -> Shard:
    """Commit a shard; when this returns, a crash or power cut no longer loses it."""
    temporary = files.unfinished(folder)
    try:
        with temporary.open("wb") as file:
            header = np.lib.format.header_data_from_array_1_0(stored)
            np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(stored).data)  # np.save would not say why a full disk took too little
            file.flush()
            os.fsync(file.fileno())
        checksum = files.checksum(temporary)
        path = folder / _name(number, checksum)
        temporary.replace(path)
        files.remember(path, checksum)
    finally:
        temporary.unlink(missing_ok=True)
    return Shard(path, len(stored))


def keep(shard: Shard, folder: Path, number: int) -> Shard:
    """A shard of another folder in this one too: the same file under two names, or a copy where that fails."""
    checksum = files.checksum(shard.path)
    path = folder / _name(number, checksum)
    path.unlink(missing_ok=True)
    try:
        os.link(shard.path, path)
    except OSError:  # a file system without links
        shutil.copyfile(shard.path, path)
    files.remember(path, checksum)
    return Shard(path, shard.rows)


def finished(folder: Path) -> dict[int, Shard]:
    """The whole shards in a folder by number; what is not whole is removed."""
    found = {}
    for path in sorted(folder.glob(f"{NAMED}*")):
        shard, checksum = Shard(path, 0), files.checksum(path)
        if checksum.startswith(shard.checksum):
            files.remember(path, checksum)
            found[shard.number] = Shard(path, len(shard.open()))
    for path in {*folder.glob(f"{NAMED}*"), *folder.glob(f"{files.TEMPORARY}*")} - {own.path for own in found.values()}:
        path.unlink()
    return found


def record(shards: Iterable[Shard]) -> list[dict[str, object]]:
    """Shards as a manifest lists them."""
    return [{"file": shard.path.name, "rows": shard.rows} for shard in shards]


def _name(number: int, checksum: str) -> str:
    return f"{NAMED}{number:05d}-{checksum[:32]}.npy"
