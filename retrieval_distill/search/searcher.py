"""The searcher: everything a query needs, loaded once - encoder, index, and what is asked for of BM25 and a teacher.

Knows how to find; must not know how results are shown or where the parts are kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.passages import best_passages, max_pool
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.hybrid import Fusion

FUSED = 100
"""Documents that dense search and BM25 each put forward to be fused, at least."""


@dataclass(frozen=True, eq=False)
class Searcher:
    """Answers queries over one corpus.

    Args:
        dataset: The documents' texts, and which document each passage is part of.
        index: Over their vectors.
        encoder: The bi-encoder that gave them; queries go through its own encoder for queries, if it has one.
        lexical: BM25 over the documents; ``None``: dense search alone.
        fusion: How the two are fused.
        teacher: Reorders the head of what was found; ``None``: nothing does.
        store: Keeps the teacher's scores.
        rerank_depth: Documents (or passages) that the teacher reads.
        allowed: Which documents may be found, bool [documents of the dataset]; ``None``: all.
    """

    dataset: Dataset
    index: Index
    encoder: Any
    lexical: BM25 | None = None
    fusion: Fusion = field(default_factory=Fusion)
    teacher: Any = None
    store: Path | None = None
    rerank_depth: int = 30
    allowed: np.ndarray | None = None

    @classmethod
    def open(cls, index: str | Path, model: str, dataset: Dataset, dtype: str = "float32") -> Searcher:
        """Dense search; what else is wanted, ``dataclasses.replace`` adds.

        Raises:
            UserError: The model is not the one that embedded the documents, the index is damaged, or it holds other
                documents than the dataset.
        """
        from retrieval_distill.student import encoder

        opened = Index.open(index)
        opened.require(model)
        return cls(dataset, opened, encoder.load(model, dtype, opened.manifest["inputs"]["max_length"]))

    def search(self, queries: Texts, depth: int) -> Run:
        """The ``depth`` best documents of every query, each by the id of its best passage, where documents were cut."""
        wide = max(self._passages * depth, FUSED if self.lexical else 0, self.rerank_depth if self.teacher else 0)
        run = self.dense(queries, wide)
        if self.lexical:
            run = self.fusion.fuse(self.lexical.search(queries, wide, self.allowed), run).top(wide)
        if self.teacher:
            run = self._reranked(run, queries)
        if self.dataset.parents is not None:
            run = best_passages(run, self.dataset.parents_of(run.frame["doc_id"]))
        return run.top(depth) if wide > depth else run

    def documents(self, queries: Texts, depth: int) -> Run:
        """The same under the documents' own ids."""
        run = self.search(queries, depth)
        return max_pool(run, self.dataset.parents_of(run.frame["doc_id"]))

    def dense(self, queries: Texts, depth: int) -> Run:
        """The ``depth`` documents, or passages, of every query whose vectors are nearest to its own."""
        from retrieval_distill.student import encoder

        vectors = encoder.encode(self.encoder, queries.take(), "query")
        scores, ids = self.index.search(vectors, depth, self._allowed_rows)
        return Run.from_best(queries.ids, ids, scores)

    @cached_property
    def _passages(self) -> int:
        """Passages of a document, on average."""
        return self.dataset.in_passages(1)

    @cached_property
    def _allowed_rows(self) -> np.ndarray | None:
        """The filter in the order of the index's rows."""
        return self.index.allowed_rows(self.dataset.documents, self.allowed)

    def _reranked(self, run: Run, queries: Texts) -> Run:
        from retrieval_distill.teacher.rerank import rerank

        assert self.store is not None
        return rerank(run, queries, self.dataset.documents, self.teacher, self.store, self.rerank_depth)


def texts_of(dataset: Dataset, ids: Sequence[str]) -> list[Record]:
    """(id, title, text) of documents or passages.

    Raises:
        UserError: The dataset does not have one.
    """
    rows = dataset.documents.rows.find(ids)
    if (rows < 0).any():
        lacking = ids[int(np.argmin(rows))]
        raise UserError(f"the index holds document {lacking!r}, but dataset {dataset.name!r} does not: name its own")
    return list(dataset.documents.at(rows).records())
