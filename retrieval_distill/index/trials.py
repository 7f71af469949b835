"""Trials: builds candidate indexes and measures their recall and latency.

Knows kinds of index, clocks and vectors; must not know the intent, or which candidate wins.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from retrieval_distill.embedding.embed import comparable
from retrieval_distill.index import rescoring
from retrieval_distill.index.faiss_index import index
from retrieval_distill.index.index import Index, Setting
from retrieval_distill.index.kinds import (
    KINDS,
    MIN_TRAINING_VECTORS,
    RESCORES,
    Kind,
    empty_index,
    encode,
    training_vectors,
)
from retrieval_distill.index.operating_points import Point
from retrieval_distill.index.vectors import PreparedVectors
from retrieval_distill.retrieval import exact

CANDIDATES = "candidates"
"""Folder of the candidate indexes; removed once the chosen one is saved."""

SUFFICIENT_RECALL = 0.9995
"""Recall above which a more thorough setting could only be slower."""

ESTIMATE_VECTORS = 4096
"""Size of the small index from whose building time that of the full one is estimated."""

TIE_TOLERANCE = 1e-5
"""Relative score difference within which a document counts as tied with the last of the exact best."""

CHOOSE, CONFIRM = slice(0, None, 2), slice(1, None, 2)
"""Queries used to choose, and the others, used to measure the choice."""


def estimate_build_seconds(kind: Kind, some: np.ndarray, documents: int) -> float:
    """Estimated seconds to build the index of all documents, from a small index of some of their vectors."""
    if len(some) < MIN_TRAINING_VECTORS:
        return 0.0
    small, start = empty_index(kind, len(some), some.shape[1]), time.monotonic()
    if training_vectors(kind, len(some)):
        small.train(some)
    trained = time.monotonic()
    small.add(encode(kind, some))
    added = time.monotonic()
    training = (trained - start) * (training_vectors(kind, documents) / len(some)) ** kind.training_growth
    return training + (added - trained) * (documents / len(some)) ** kind.growth


@dataclass(frozen=True, eq=False)
class Trials:
    """Candidates for one corpus.

    Args:
        prepared: The documents' vectors.
        queries: Vectors of held-out queries, float32 [queries, dimensions].
        wanted: Documents requested per query.
        out: Folder of the candidates.
    """

    prepared: PreparedVectors
    queries: np.ndarray
    wanted: int
    out: Path

    @property
    def depth(self) -> int:
        """Documents per query, at most as many as there are."""
        return min(self.wanted, self.prepared.documents)

    @cached_property
    def truth(self) -> list[set[int]]:
        """The rows of each query's exact best documents, including ties with the last of them."""
        queries = comparable(self.queries, self.prepared.similarity, self.prepared.cut)
        scores, rows = exact.best(queries, self.prepared.blocks, 2 * self.depth)
        best = scores >= scores[:, self.depth - 1 : self.depth] - TIE_TOLERANCE * np.abs(scores[:, :1])
        return [set(found[among & (found >= 0)].tolist()) for found, among in zip(rows, best, strict=True)]

    def points(self, name: str, end: float) -> Iterator[Point]:
        """Build a kind and measure its settings and rescoring depths, skipping those that could only be slower.

        Args:
            name: The kind.
            end: When to stop, on the monotonic clock; at least one point is measured.
        """
        made = self.prepared
        index(made.embeddings.folder, self.folder(name), name, made.similarity, made.cut, rescore=0)
        opened, kind = self.opened(name), KINDS[name]
        for setting in kind.settings or (None,):
            for rescore in RESCORES if kind.loses else (0,):
                recalls, milliseconds = self.ask(opened, Setting(setting, rescore), CHOOSE)
                middle, slow = np.percentile(milliseconds, [50, 95]).tolist()
                memory, recall = opened.manifest["counts"]["bytes"], float(recalls.mean())
                yield Point(name, setting, rescore, recall, round(middle, 4), round(slow, 4), memory)
                if time.monotonic() > end:
                    return
                if recall >= SUFFICIENT_RECALL:
                    break
            if recall >= SUFFICIENT_RECALL:
                return

    def ask(self, opened: Index, setting: Setting, which: slice) -> tuple[np.ndarray, np.ndarray]:
        """Recall and milliseconds of each of some queries, searched one by one."""
        recalls, milliseconds = [], []
        opened.best_rows(self.queries[:1], self.depth, setting)
        for query, best in zip(self.queries[which], self.truth[which], strict=True):
            start = time.perf_counter()
            _, rows = opened.best_rows(query[None], self.depth, setting)
            milliseconds.append(1000 * (time.perf_counter() - start))
            recalls.append(min(len(best & set(rows[0].tolist())), self.depth) / self.depth)
        return np.array(recalls), np.array(milliseconds)

    def folder(self, name: str) -> Path:
        """The folder of a candidate."""
        return self.out / CANDIDATES / name

    def opened(self, name: str) -> Index:
        """Open a candidate; a lossy one with the stored vectors that all lossy candidates share."""
        opened = Index.open(self.folder(name))
        return replace(opened, stored=rescoring.open_stored(self._stored_vectors())) if KINDS[name].loses else opened

    def _stored_vectors(self) -> Path:
        path, made = self.out / rescoring.FILE, self.prepared
        if not path.is_file():
            temporary = path.with_suffix(".whole")
            rescoring.write(temporary, made.blocks(), made.documents, made.dimensions, made.similarity)
            temporary.replace(path)
        return path
