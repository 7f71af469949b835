"""Rescoring: reorders what an inexact index found by the documents' exact vectors, which stay on disk.

The vectors are one memory-mapped file in the index's folder: only those of retrieved documents are read.
Knows arrays and one file; must not know FAISS, ids or models. Source: Yamada et al., "Efficient Passage Retrieval with
Hashing for Open-domain Question Answering", ACL 2021 (arXiv 2106.00882), its second stage.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

FILE = "vectors.npy"


def write(path: Path, blocks: Iterable[np.ndarray], documents: int, dimensions: int, similarity: str) -> None:
    """Store prepared vectors: float16 for ``"cosine"``, float32 for ``"dot"``, whose vectors may be of any length."""
    dtype = np.dtype(np.float16 if similarity == "cosine" else np.float32)
    with path.open("wb") as file:
        shape = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (documents, dimensions)}
        np.lib.format.write_array_header_1_0(file, shape)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).data)


def open_stored(path: Path) -> np.ndarray:
    """The stored vectors, memory-mapped [documents, dimensions]."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def rescore_rows(
    stored: np.ndarray, queries: np.ndarray, rows: np.ndarray, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """The best of the retrieved rows, by the inner product of stored vector and query.

    Args:
        stored: [documents, dimensions].
        queries: Prepared vectors, float32 [queries, dimensions].
        rows: Rows the index found, [queries, at least ``depth``]; -1: empty.
        depth: Rows to keep per query.

    Returns:
        Scores and rows, both [queries, depth], best first, ties by row.
    """
    scores = np.full(rows.shape, -np.inf, np.float32)
    for query, found, score in zip(queries, rows, scores, strict=True):
        hit = found >= 0
        score[hit] = stored[found[hit]].astype(np.float32) @ query
    order = np.lexsort((rows, -scores))[:, :depth]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
