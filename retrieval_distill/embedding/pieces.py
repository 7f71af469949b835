"""Pieces: vectors of a shard that is not whole yet, committed every few seconds, so that little is lost with it.

    pieces/00003/vectors-00001-9c1f...07.npy     the second piece of shard 3: rows of the shard and their vectors

A piece is committed and checked as a shard is, and holds vectors as the model gave them: what the shard will be does
not depend on how it was cut. Knows arrays and files; must not know texts or models.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_distill.embedding import shards

FOLDER = "pieces"
"""Where pieces are within the folder of the shards."""

Part = tuple[np.ndarray, np.ndarray]
"""Rows of a shard, int64 [rows], and their vectors, float32 [rows, dimensions]."""


@dataclass(frozen=True)
class Pieces:
    """The pieces of one shard, of the folder of all of them."""

    shards: Path
    number: int

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self.shards / FOLDER / f"{self.number:05d}"

    def read(self) -> list[Part]:
        """Every whole piece; what is not whole is removed."""
        found = [piece.open() for _, piece in sorted(shards.finished(self.folder).items())]
        return [(stored["row"].copy(), stored["vector"].copy()) for stored in found]

    def count(self) -> int:
        """How many rows they hold."""
        return sum(piece.rows for piece in shards.finished(self.folder).values())

    def keep(self, part: Part) -> None:
        """Commit a piece; when this returns, a crash or power cut no longer loses it."""
        rows, vectors = part
        self.folder.mkdir(parents=True, exist_ok=True)
        stored = np.empty(len(rows), [("row", np.int64), ("vector", np.float32, vectors.shape[1:])])
        stored["row"], stored["vector"] = rows, vectors
        shards.write(self.folder, 1 + max(shards.finished(self.folder), default=-1), stored)

    def remove(self) -> None:
        """Remove them all: their shard is whole."""
        shutil.rmtree(self.folder, ignore_errors=True)


def joined(parts: list[Part]) -> Part:
    """Several as one."""
    rows, vectors = zip(*parts, strict=True)
    return np.concatenate(rows), np.concatenate(vectors)
