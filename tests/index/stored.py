"""Vectors on disk as ``embed`` leaves them, without a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.embedding import shards
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.runtime import stages

SHARD = 700


def store(folder: Path, vectors: np.ndarray, ids: list[str] | None = None) -> Path:
    """Write vectors, under ids d0, d1, ... if none are given, in place of those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = ids or [f"d{row}" for row in range(len(vectors))]
    pq.write_table(pa.table({"id": ids, "hash": np.arange(len(ids), dtype=np.uint64)}), folder / "ids.parquet")
    Storage.fit("float32", vectors).save(folder)
    parts = [vectors[start : start + SHARD] for start in range(0, len(vectors), SHARD)]
    written = [shards.write(folder, number, part) for number, part in enumerate(parts)]
    stages.write_json(folder / "shards.json", shards.describe(iter(written)))
    manifest = {
        "stage": "embed", "fingerprint": stages.fingerprint([ids, vectors.tolist()]),
        "inputs": {"model": "the model", "max_length": None},
        "counts": {"documents": len(vectors), "dimensions": vectors.shape[1]},
    }  # fmt: skip
    stages.write_json(folder / "manifest.json", manifest)
    return folder


def clustered(count: int, dimensions: int = 32, seed: int = 0, clusters: int = 40) -> np.ndarray:
    """Vectors around some centres, of lengths between 0.5 and 2."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(clusters, dimensions))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(clusters, size=count)] + 0.7 * rng.normal(size=(count, dimensions))
    return (vectors * rng.uniform(0.5, 2, (count, 1)) / np.sqrt(dimensions)).astype(np.float32)
