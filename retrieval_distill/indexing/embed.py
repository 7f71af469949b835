"""``embed``: a corpus to vectors on disk, shard by shard, resumable and within a fixed memory.

Knows bi-encoders and arrays; must not know FAISS or judgements.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill import artifacts, models
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.progress import progress

SHARD = 8192
"""Documents of one shard: what is held in memory, and the most that a crash costs."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors on disk: ``ids.parquet`` and ``vectors-NNNNN.npy`` (float32, rows in the order of the ids)."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> Embeddings:
        """Open what ``embed`` wrote.

        Raises:
            UserError: The folder holds no finished embeddings.
        """
        if artifacts.read_manifest(folder) is None or not (Path(folder) / "ids.parquet").is_file():
            raise UserError(f"{folder}: no embeddings there; make them with: retrieval-distill embed")
        return cls(Path(folder))

    @cached_property
    def ids(self) -> list[str]:
        """Document ids in row order."""
        return self._id_column.to_pylist()

    def ids_of(self, rows: np.ndarray) -> np.ndarray:
        """Document ids of rows, an object array of the same shape; ``None`` for rows below 0."""
        flat = rows.ravel()
        return self._id_column.take(pa.array(flat, mask=flat < 0)).to_numpy().reshape(rows.shape)

    @cached_property
    def _id_column(self) -> pa.ChunkedArray:
        """In Arrow's memory, a tenth of what Python's strings take."""
        return pq.read_table(self.folder / "ids.parquet")["id"]

    @property
    def manifest(self) -> dict[str, Any]:
        """What made these vectors: model, prompt, length, dtype."""
        return artifacts.read_manifest(self.folder) or {}

    def shards(self) -> Iterator[np.ndarray]:
        """The arrays, memory-mapped, in order."""
        for path in sorted(self.folder.glob("vectors-*.npy")):
            yield np.load(path, mmap_mode="r", allow_pickle=False)


def comparable(vectors: np.ndarray, similarity: str) -> np.ndarray:
    """Vectors (float32, contiguous) whose inner product is their ``"cosine"`` or ``"dot"`` similarity."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    if similarity == "cosine":
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return vectors


def embed_queries(
    model: str, queries: Texts, manifest: artifacts.Manifest, folder: Path, dtype: str = "auto"
) -> np.ndarray:
    """Vectors of queries, float32 [queries, dimensions], by the model that embedded the documents.

    Args:
        model: The query encoder.
        queries: Embedded with the model's ``query`` prompt, if it has one.
        manifest: Of the embedded documents, or of an index over them.
        folder: Theirs, for the message.
        dtype: What the model computes in.

    Raises:
        UserError: The model's weights differ from those that embedded the documents.
    """
    from retrieval_distill.student import encoder

    require(model, manifest, folder)
    loaded = encoder.load(model, dtype, manifest["inputs"]["max_length"])
    return encoder.encode(loaded, queries.take(), "query")


def require(model: str, manifest: artifacts.Manifest, folder: Path) -> None:
    """Refuse a query encoder that vectors, or an index over them, do not come from.

    Raises:
        UserError: The model's weights differ from those that embedded the documents.
    """
    if models.fingerprint(model) != manifest["inputs"]["model"]:
        raise UserError(
            f"{folder}: this {manifest['stage']} was not built with {model!r}; embed the corpus with it first"
        )


def embed(
    model: str,
    documents: Texts,
    folder: str | Path,
    dtype: str = "auto",
    max_length: int | None = None,
) -> artifacts.Manifest:
    """Embed documents into a folder; a rerun resumes at the last finished shard, a finished one is kept.

    Args:
        model: Bi-encoder, see :func:`retrieval_distill.models.resolve`.
        documents: What to embed (with the model's ``document`` prompt, if it has one).
        folder: Where the vectors go.
        dtype: What the model computes in; vectors are stored as float32. ``"auto"``: bfloat16 where it is native.
        max_length: Token limit; ``None`` keeps the model's own.

    Returns:
        The stage's manifest.
    """
    inputs = {
        "model": models.fingerprint(model),
        "documents": documents.fingerprint,
        "dtype": dtype,
        "max_length": max_length,
        "shard": SHARD,
    }
    return artifacts.stage("embed", folder, inputs, lambda out: _embed(model, documents, out, dtype, max_length))


def _embed(model: str, documents: Texts, out: Path, dtype: str, max_length: int | None) -> dict[str, Any]:
    from retrieval_distill.student import encoder

    pq.write_table(pa.table({"id": pa.array(documents.ids, pa.string())}), out / "ids.parquet")
    encoder_model = encoder.load(model, dtype, max_length)
    starts = range(0, len(documents), SHARD)
    finished = [start for start in starts if _shard_path(out, start).exists()]
    done = sum(min(SHARD, len(documents) - start) for start in finished)
    with progress("embedding documents", len(documents), "documents", done) as advance:
        for start in starts:
            if start in finished:
                continue
            texts = documents.take(documents.ids[start : start + SHARD])
            _save(_shard_path(out, start), encoder.encode(encoder_model, texts, "document", advance))
    return {
        "documents": len(documents),
        "embedded": len(documents) - done,
        "dimensions": encoder_model.get_embedding_dimension(),
    }


def _shard_path(folder: Path, start: int) -> Path:
    return folder / f"vectors-{start // SHARD:05d}.npy"


def _save(path: Path, vectors: np.ndarray) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
