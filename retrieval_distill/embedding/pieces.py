"""Pieces: vectors of an unfinished shard, committed every few seconds so that a crash loses little.

    pieces/00003/vectors-00001-9c1f...07.npy     the second piece of shard 3: rows of the shard and their vectors

Pieces are committed and verified like shards, and hold the model's vectors unchanged, so the shard does not depend on
how it was divided. Knows arrays and files; must not know texts or models.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_distill.embedding import shards

FOLDER = "pieces"
"""Subfolder of the pieces in the folder of shards."""

Part = tuple[np.ndarray, np.ndarray]
"""Rows of a shard, int64 [rows], and their vectors, float32 [rows, dimensions]."""


@dataclass(frozen=True)
class Pieces:
    """The pieces of shard ``number`` in a folder of shards."""

    shards: Path
    number: int

    @property
    def folder(self) -> Path:
        """The folder of this shard's pieces."""
        return self.shards / FOLDER / f"{self.number:05d}"

    def read(self) -> list[Part]:
        """Every complete piece; incomplete ones are removed."""
        found = [piece.open() for _, piece in sorted(shards.recover(self.folder).items())]
        return [(stored["row"].copy(), stored["vector"].copy()) for stored in found]

    def count(self) -> int:
        """The number of rows in the pieces."""
        return sum(piece.rows for piece in shards.recover(self.folder).values())

    def keep(self, part: Part) -> None:
        """Commit a piece; once this returns, it survives a crash or power cut."""
        rows, vectors = part
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = np.empty(len(rows), [("row", np.int64), ("vector", np.float32, vectors.shape[1:])])
        stored["row"], stored["vector"] = rows, vectors
        shards.write(self.folder, 1 + max(shards.recover(self.folder), default=-1), stored)

    def remove(self) -> None:
        """Remove all pieces, once their shard is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)


def join(parts: list[Part]) -> Part:
    """Several parts as one."""
    rows, vectors = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(vectors)
