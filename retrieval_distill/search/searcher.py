"""The searcher: everything a query needs, loaded once - encoder, index and, optionally, BM25 and a teacher.

Knows how to search; must not know how results are displayed or where the parts are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.passages import best_passages, max_pool
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.index.index import Index
from retrieval_distill.retrieval.hybrid import FUSION_DEPTH, Fusion
from retrieval_distill.search.hits import Hit, hits
from retrieval_distill.search.lexical import with_fusion
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.search.questions import question
from retrieval_distill.student.query_encoder import QueryEncoder

if TYPE_CHECKING:
    from retrieval_distill.retrieval.bm25 import BM25

SAMPLE_DOCUMENTS = 8
"""Number of documents on which a light encoder is checked, in full and truncated."""


@dataclass(frozen=True)
class Answer:
    """What was found for queries: the ranking, and what it was fused from; ``None``: that part was not asked."""

    run: Run
    dense: Run | None = None
    lexical: Run | None = None

    def of(self, query_ids: Sequence[str]) -> Answer:
        """The answer to some of the queries."""
        dense, lexical = (None if run is None else run.select(query_ids) for run in (self.dense, self.lexical))
        return Answer(self.run.select(query_ids), dense, lexical)


@dataclass(frozen=True, eq=False, repr=False)
class Searcher:
    """Answers questions over one corpus: ``searcher("how do I read a file", depth=5)`` returns the best documents.

    Args:
        encoder: The bi-encoder that embedded the documents: a ``Student``, its folder or name, or its query encoder;
            ``None``: BM25 alone finds documents.
        index: The index.
        dataset: The documents' texts, and which document each passage belongs to.
        lexical: BM25 over the documents; ``None``: dense search alone.
        fusion: How the two are fused.
        teacher: Reranks the best documents found; ``None``: no reranking.
        store: Score store for the teacher's scores.
        rerank_depth: Number of documents (or passages) that the teacher reranks.
        allowed: Which documents may be found, bool [documents of the dataset]; ``None``: all.
    """

    encoder: Any  # a QueryEncoder, or None, after construction
    index: Index
    dataset: Dataset
    lexical: BM25 | None = None
    fusion: Fusion = field(default_factory=Fusion)
    teacher: Any = None
    store: Path | None = None
    rerank_depth: int = 30
    allowed: np.ndarray | None = None

    def __post_init__(self) -> None:
        if isinstance(self.encoder, str | PathLike):
            name = fspath(self.encoder)
            self.index.require(name)
            object.__setattr__(
                self, "encoder", QueryEncoder(name, "float32", self.index.manifest["inputs"]["max_length"])
            )

    @classmethod
    def open(
        cls,
        folder: str | Path,
        model: str | PathLike[str] | None = None,
        dataset: Dataset | None = None,
        dtype: str = "float32",
    ) -> Searcher:
        """Open a finished run like the command ``search``, or dense search of an index.

        Use ``dataclasses.replace`` to add other parts.

        Args:
            folder: Folder of a run, such as ``runs/demo``, or, with ``model`` and ``dataset``, of an index.
            model: The model that embedded the index's documents; of a run, an exported copy of its student, with which
                the searcher opens without PyTorch.
            dataset: Their texts.
            dtype: Number format of the computation.

        Raises:
            UserError: There is no run or no index, the model is not the one that embedded the documents, or the index
                is damaged.
        """
        run = dataset is None and (model is None or (Path(folder) / "recipe.json").is_file())
        if not run and (model is None or dataset is None):
            raise UserError("a searcher of an index needs model and dataset; a searcher of a run needs neither")
        if model is None or dataset is None:
            place = SearchLocation.of_run(Path(folder)).with_model(None if model is None else fspath(model))
            return with_fusion(cls.open(place.index, place.model, place.dataset, dtype).lightened(place), place, None)
        index, model = Index.open(folder), fspath(model)
        index.require(model)
        return cls(QueryEncoder(model, dtype, index.manifest["inputs"]["max_length"]), index, dataset)

    def lightened(self, place: SearchLocation) -> Searcher:
        """The same with a light encoder, which its location keeps and which opens faster the next time."""
        long = place.dataset.documents.at(np.arange(min(SAMPLE_DOCUMENTS, len(place.dataset.documents)))).take()
        texts, model = [*long, *(text[:60] for text in long)], self.index.manifest["inputs"]["model"]
        return replace(self, encoder=self.encoder.with_light_encoder(place.search_folder / "encoder", model, texts))

    def __call__(self, query: str, depth: int = 5) -> list[Hit]:
        """The best documents for one query, best first.

        Raises:
            UserError: The query is empty, or a document of the index is not in the dataset.
        """
        return hits(self.search(Texts.from_records([("query", "", question(query))]), depth), self.dataset, query)

    def __repr__(self) -> str:
        held, kind = f"{counted(self.size, 'document')} of {self.dataset.name!r}", self.index.manifest["counts"]["kind"]
        return f"Searcher({held}, index {kind}, {self.how})"

    @property
    def how(self) -> str:
        """A description of how documents are found."""
        ways = ["dense search" if self.lexical is None else f"dense search fused with BM25 ({self.fusion})"]
        if self.encoder is None:
            ways = ["BM25"]
        if self.teacher is not None:
            ways.append(f"the first {self.rerank_depth} reranked")
        if self.allowed is not None:
            ways.append(f"filtered to {int(self.allowed.sum()):,}")
        return ", ".join(ways)

    @cached_property
    def size(self) -> int:
        """Number of documents that can be found without a filter; a document with passages counts once."""
        return self.index.documents if self.dataset.parents is None else self.dataset.size

    def search(self, queries: Texts, depth: int) -> Run:
        """The ``depth`` best documents of every query; a document with passages by the id of its best passage.

        Fewer only if there are no more.
        """
        return self.answer(queries, depth).run

    def answer(self, queries: Texts, depth: int, vectors: np.ndarray | None = None) -> Answer:
        """Like :meth:`search`, with the Runs that were fused, in passages if documents have them.

        Args:
            queries: The queries.
            depth: Documents per query.
            vectors: The queries' vectors, float32 [queries, dimensions]; ``None``: they are encoded.
        """
        found = self._candidates(queries, depth, vectors)
        run = self._reranked(found.run, queries) if self.teacher else found.run
        if self.dataset.parents is not None:
            run = best_passages(run, self.dataset.parents_of(run.frame["doc_id"]))
        return replace(found, run=run.top(depth))

    def documents(self, queries: Texts, depth: int) -> Run:
        """Like :meth:`search`, with the ids of documents instead of passages."""
        run = self.search(queries, depth)
        return max_pool(run, self.dataset.parents_of(run.frame["doc_id"]))

    def dense(self, queries: Texts, depth: int) -> Run:
        """The ``depth`` documents, or passages, whose vectors are nearest to each query's."""
        return self._nearest(queries, self.encoder(queries.take()), depth)

    def _candidates(self, queries: Texts, depth: int, vectors: np.ndarray | None) -> Answer:
        """Documents, or passages of at least ``depth`` documents, for every query.

        The number of passages assumes an average number per document; queries that find too few documents are repeated
        with twice as many, until there are enough or no more.
        """
        if vectors is None and self.encoder is not None:
            vectors = self.encoder(queries.take())
        due, found = np.arange(len(queries)), list[Answer]()
        wide = max(
            self.dataset.in_passages(max(depth, FUSION_DEPTH if self.lexical else 0)),
            self.rerank_depth if self.teacher else 0,
        )
        while True:
            subset = queries.at(due)
            part = self._fused(subset, None if vectors is None else vectors[due], wide)
            short = self._short(part.run, subset, depth, wide)
            found.append(part.of(np.array(subset.ids, dtype=object)[~short].tolist()) if short.any() else part)
            if not short.any():
                return _in_order(found, queries)
            due, wide = due[short], 2 * wide

    def _fused(self, queries: Texts, vectors: np.ndarray | None, wide: int) -> Answer:
        """The best documents, or passages, by each part and by their fusion."""
        lexical = None if self.lexical is None else self.lexical.search(queries, wide, self.allowed)
        dense = None if vectors is None else self._nearest(queries, vectors, wide)
        if lexical is None or dense is None:
            run = dense if lexical is None else lexical
            assert run is not None
            return Answer(run, dense, lexical)
        return Answer(self.fusion.fuse(lexical, dense).top(wide), dense, lexical)

    def _short(self, run: Run, queries: Texts, depth: int, wide: int) -> np.ndarray:
        """Which queries found passages of too few documents, and could find more, bool [queries]."""
        if self.dataset.parents is None:
            return np.zeros(len(queries), bool)
        rows = run.frame.assign(document=self.dataset.parents_of(run.frame["doc_id"])).groupby("query_id")
        counts = rows["document"].agg(["size", "nunique"]).reindex(queries.ids, fill_value=0)
        return ((counts["nunique"] < depth) & (counts["size"] >= wide)).to_numpy()

    def _nearest(self, queries: Texts, vectors: np.ndarray, depth: int) -> Run:
        scores, ids = self.index.search(vectors, depth, self._allowed_rows)
        few = (ids == np.array(None)).any(axis=1)
        if few.any() and self.allowed is None:  # a graph or lists found too few: search exhaustively
            everything = np.ones(self.index.documents, bool)
            scores[few], ids[few] = self.index.search(vectors[few], depth, everything)
        return Run.from_best(queries.ids, ids, scores)

    @cached_property
    def _allowed_rows(self) -> np.ndarray | None:
        """The filter in the index's row order."""
        return self.index.allowed_rows(self.dataset.documents, self.allowed)

    def _reranked(self, run: Run, queries: Texts) -> Run:
        from retrieval_distill.teacher.rerank import rerank

        assert self.store is not None
        return rerank(run, queries, self.dataset.documents, self.teacher, self.store, self.rerank_depth)


def _in_order(parts: list[Answer], queries: Texts) -> Answer:
    """Join answers to different queries, in the order of the queries."""
    if len(parts) == 1:
        return parts[0]
    place = {id_: number for number, id_ in enumerate(queries.ids)}

    def joined(runs: Iterable[Run]) -> Run:
        frame = Run.concat(list(runs)).frame
        order = np.argsort(frame["query_id"].map(place).to_numpy(), kind="stable")
        return Run(frame.iloc[order].reset_index(drop=True))

    dense = [part.dense for part in parts if part.dense is not None]
    lexical = [part.lexical for part in parts if part.lexical is not None]
    return Answer(
        joined(part.run for part in parts), joined(dense) if dense else None, joined(lexical) if lexical else None
    )
