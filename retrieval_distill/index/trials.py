"""Trials: candidate indexes built in a folder, and what they give and cost when asked.

Knows kinds of index, clocks and vectors; must not know what is aimed at, or which trial wins.
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
from retrieval_distill.index.kinds import FEWEST_TO_TRAIN, KINDS, RESCORES, Kind, empty_index, encoded, training_vectors
from retrieval_distill.index.operating_points import Point
from retrieval_distill.index.vectors import Prepared
from retrieval_distill.retrieval import exact

CANDIDATES = "candidates"
"""Folder of the indexes that are tried; it goes once one of them is chosen and safe."""

ENOUGH = 0.9995
"""Recall from which a more thorough setting could only be slower."""

SMALL = 4096
"""Vectors of the small index whose building time tells the whole one's."""

TIED = 1e-5
"""Documents whose product is so close to the last of the exact best are as good as it."""

CHOOSE, CONFIRM = slice(0, None, 2), slice(1, None, 2)
"""Queries that choose, and the others, which measure what was chosen."""


def estimated(kind: Kind, some: np.ndarray, documents: int) -> float:
    """Seconds that building takes for so many documents, from a small index of some of their vectors."""
    if len(some) < FEWEST_TO_TRAIN:
        return 0.0
    small, start = empty_index(kind, len(some), some.shape[1]), time.monotonic()
    if training_vectors(kind, len(some)):
        small.train(some)
    trained = time.monotonic()
    small.add(encoded(kind, some))
    added = time.monotonic()
    training = (trained - start) * (training_vectors(kind, documents) / len(some)) ** kind.training_growth
    return training + (added - trained) * (documents / len(some)) ** kind.growth


@dataclass(frozen=True, eq=False)
class Trials:
    """Candidates for one corpus.

    Args:
        prepared: The documents' vectors.
        queries: Vectors of held-out queries, float32 [queries, dimensions].
        wanted: Documents per query.
        out: Folder of the candidates.
    """

    prepared: Prepared
    queries: np.ndarray
    wanted: int
    out: Path

    @property
    def depth(self) -> int:
        """Documents per query, as far as there are any."""
        return min(self.wanted, self.prepared.documents)

    @cached_property
    def truth(self) -> list[set[int]]:
        """The rows of each query's exact best documents, and of those that equal the last of them."""
        asked = comparable(self.queries, self.prepared.similarity, self.prepared.cut)
        scores, rows = exact.best(asked, self.prepared.blocks, 2 * self.depth)
        best = scores >= scores[:, self.depth - 1 : self.depth] - TIED * np.abs(scores[:, :1])
        return [set(found[among & (found >= 0)].tolist()) for found, among in zip(rows, best, strict=True)]

    def points(self, name: str, end: float) -> Iterator[Point]:
        """Build a kind and measure its settings and rescoring depths; those that could only be slower are passed over.

        Args:
            name: The kind.
            end: When to stop, by the monotonic clock; one point is measured in any case.
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
                if recall >= ENOUGH:
                    break
            if recall >= ENOUGH:
                return

    def ask(self, opened: Index, setting: Setting, which: slice) -> tuple[np.ndarray, np.ndarray]:
        """Recall and milliseconds of each of some queries, asked one by one."""
        recalls, milliseconds = [], []
        opened.best_rows(self.queries[:1], self.depth, setting)
        for query, best in zip(self.queries[which], self.truth[which], strict=True):
            start = time.perf_counter()
            _, rows = opened.best_rows(query[None], self.depth, setting)
            milliseconds.append(1000 * (time.perf_counter() - start))
            recalls.append(min(len(best & set(rows[0].tolist())), self.depth) / self.depth)
        return np.array(recalls), np.array(milliseconds)

    def folder(self, name: str) -> Path:
        """Where a candidate is."""
        return self.out / CANDIDATES / name

    def opened(self, name: str) -> Index:
        """A candidate; one that loses something with the stored vectors that all such candidates share."""
        opened = Index.open(self.folder(name))
        return replace(opened, stored=rescoring.open_stored(self._stored())) if KINDS[name].loses else opened

    def _stored(self) -> Path:
        path, made = self.out / rescoring.FILE, self.prepared
        if not path.is_file():
            whole = path.with_suffix(".whole")
            rescoring.write(whole, made.blocks(), made.documents, made.dimensions, made.similarity)
            whole.replace(path)
        return path
