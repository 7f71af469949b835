"""Reads vectors from disk: by row, by id, or shard by shard, each shard verified before its first use.

Knows arrays, ids and files; must not know models, FAISS or judgements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.data.columns import values_at
from retrieval_distill.data.rows import RowIndex
from retrieval_distill.embedding import shards
from retrieval_distill.embedding.shards import Shard
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import stages


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors on disk: ``ids.parquet`` (ids and hashes of texts), ``shards.json``, ``storage.json`` and shards.

    Row ``i`` of the concatenated shards is the vector of id ``i``.
    """

    folder: Path
    manifest: stages.Manifest
    """What made these vectors: model, length, dtype, storage."""

    @classmethod
    def open(cls, folder: str | Path, manifest: stages.Manifest | None = None) -> Embeddings:
        """Open a folder that ``embed`` wrote.

        Args:
            folder: The folder.
            manifest: What ``embed`` just returned; ``None``: read it from the folder.

        Raises:
            UserError: The folder holds no finished embeddings, a shard is missing, or another file was altered.
        """
        folder = Path(folder)
        manifest = manifest or stages.verified_manifest(folder, shards.PREFIX, shards.altered_shard_error)
        if manifest is None or not (folder / "shards.json").is_file():
            raise UserError(f"{folder}: no embeddings there; create them with: retrieval-distill embed")
        opened = cls(folder, manifest)
        for shard in opened.files:
            if not shard.path.is_file():
                shard.verify()
        return opened

    def __len__(self) -> int:
        return int(self.manifest["counts"]["documents"])

    def __repr__(self) -> str:
        held = f"{counted(len(self), 'document')}, {self.storage.dimensions} dimensions"
        return f"Embeddings({str(self.folder)!r}, {held})"

    @cached_property
    def ids(self) -> list[str]:
        """Document ids in row order."""
        return self.id_column.to_pylist()

    def ids_of(self, rows: np.ndarray) -> np.ndarray:
        """Document ids of rows, an object array of the same shape; ``None`` for rows below 0."""
        return values_at(self.id_column, rows)

    @cached_property
    def rows(self) -> RowIndex:
        """Id -> row; ``rows.find(ids)`` looks up many at once."""
        return RowIndex.of(self.id_column)

    @cached_property
    def hashes(self) -> np.ndarray:
        """Text hashes in row order, uint64 [rows]; see ``data.hashes``."""
        return pq.read_table(self.folder / "ids.parquet", columns=["hash"])["hash"].to_numpy()

    @cached_property
    def storage(self) -> Storage:
        """The format of the stored vectors."""
        return Storage.open(self.folder)

    @cached_property
    def files(self) -> list[Shard]:
        """The shards in order."""
        listed = stages.read_json(self.folder / "shards.json")
        return [Shard(self.folder / entry["file"], entry["rows"]) for entry in listed]

    def shards(self) -> Iterator[np.ndarray]:
        """The vectors in row order, float32 [rows of a shard, dimensions]; memory-mapped if stored as float32.

        Each shard is unmapped after use, so a pass over a corpus holds only one in memory.

        Raises:
            UserError: A shard is missing or was altered.
        """
        for number in range(len(self.files)):
            yield self.storage.decode(self._checked(number).open())

    def open_shard(self, number: int) -> np.ndarray:
        """A shard in its stored format, memory-mapped; the map is cached.

        Raises:
            UserError: It is missing or was altered.
        """
        if number not in self._opened:
            self._opened[number] = self._checked(number).open()
        return self._opened[number]

    def _checked(self, number: int) -> Shard:
        """A shard whose checksum has been verified, once."""
        if number not in self._verified:
            self.files[number].verify()
            self._verified.add(number)
        return self.files[number]

    def take(self, ids: Sequence[str]) -> np.ndarray:
        """The vectors of these documents: float32 [ids, dimensions].

        Raises:
            KeyError: An id is unknown.
            UserError: A shard is missing or was altered.
        """
        rows = self.rows.rows_of(ids)
        ends = np.cumsum([shard.rows for shard in self.files])
        holders = np.searchsorted(ends, rows, side="right")
        vectors = np.empty((len(rows), self.storage.dimensions), np.float32)
        for number in np.unique(holders):
            positions = np.flatnonzero(holders == number)
            within = rows[positions] - (ends[number] - self.files[number].rows)
            vectors[positions] = self.storage.decode(self.open_shard(number)[within])
        return vectors

    @cached_property
    def _verified(self) -> set[int]:
        return set()

    @cached_property
    def _opened(self) -> dict[int, np.ndarray]:
        return {}

    @cached_property
    def id_column(self) -> pa.ChunkedArray:
        """The ids as an Arrow column, which takes a tenth of the memory of Python strings."""
        return pq.read_table(self.folder / "ids.parquet", columns=["id"])["id"]


def comparable(vectors: np.ndarray, similarity: str, dimensions: int | None = None) -> np.ndarray:
    """Vectors (float32, contiguous) whose inner product is their ``"cosine"`` or ``"dot"`` similarity.

    Truncated to their first ``dimensions``, they keep their original lengths, as in training (``objectives.views``).
    """
    cut = np.ascontiguousarray(vectors[:, :dimensions], np.float32)
    if similarity == "dot" and dimensions is None:
        return cut
    unit = cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
    return unit if similarity == "cosine" else unit * np.linalg.norm(vectors, axis=1, keepdims=True)
