"""Assembles a searcher from a location: dense search, and fusion with BM25 as tuned there.

Knows a location and a searcher; must not know options or the terminal.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from retrieval_distill.bounds import Count, bounded
from retrieval_distill.config import ReadConfig, TeacherConfig, parse
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.formats import tables, texts
from retrieval_distill.data.formats.reading import Reading
from retrieval_distill.errors import UserError
from retrieval_distill.search.lexical import tune, with_fusion
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.search.questions import questions
from retrieval_distill.search.searcher import Searcher

__all__ = ["open_searcher", "queries", "tune", "with_options"]


def open_searcher(place: SearchLocation, dtype: str = "float32") -> Searcher:
    """Dense search of a location. Keeps a light encoder there, with which it opens faster the next time.

    Args:
        place: Where its parts are.
        dtype: What the model computes in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.

    Raises:
        UserError: The model is not the one that embedded the documents, or the index is damaged.
    """
    return Searcher.open(place.index, place.model, place.dataset, dtype).lightened(place)


@bounded
def with_options(
    searcher: Searcher,
    place: SearchLocation,
    *,
    hybrid: str | None = None,
    rerank: str | None = None,
    rerank_depth: Count = 30,
    where: str | None = None,
    metadata: str | Path | None = None,
) -> Searcher:
    """Add what the options of the command ``search`` ask for to dense search.

    Args:
        searcher: Dense search.
        place: Location of BM25's index, weights and scores.
        hybrid: How to fuse it with BM25: ``"none"``, ``"tuned"``, or weights such as ``score:0.7``; ``None``: what is
            better on a run's dev queries; outside of a run ``"none"``.
        rerank: Teacher that reranks the results: a cross-encoder (hub id, folder, ``starter``),
            ``bi-encoder:NAME``, ``bm25``, ``llm:NAME``, ``api:NAME`` or ``scores:FILE``; ``None``: no reranking.
        rerank_depth: Documents that the teacher of ``rerank`` reads.
        where: SQL condition on the columns of ``metadata`` that found documents must meet; ``None``: no condition.
        metadata: Table of these columns; ``None``: the corpus.

    Raises:
        UserError: As :func:`with_fusion`; there is no such teacher, or the condition does not fit the table.
    """
    searcher = with_fusion(searcher, place, hybrid)
    if rerank is not None:
        from retrieval_distill.teacher import teacher_loader

        config = parse(TeacherConfig, {"model": rerank, "bm25": place.bm25}, "teacher")
        teacher = teacher_loader.load(config, teacher_loader.Corpus(place.dataset.documents))
        searcher = replace(searcher, teacher=teacher, store=place.search_folder / "scores", rerank_depth=rerank_depth)
    if where is not None:
        from retrieval_distill.search import document_filter

        table = Path(metadata) if metadata else document_filter.table_of(place.source, place.cache)
        names = document_filter.ID_NAMES if metadata else place.id_names
        searcher = replace(searcher, allowed=document_filter.allowed_documents(where, table, place.dataset, names))
    return searcher


def queries(dataset: Dataset, named: str, options: ReadConfig | None = None) -> Texts:
    """Queries to answer: those of a split, or of a table with the columns ``id`` and ``text``.

    Args:
        dataset: The dataset, whose splits take precedence.
        named: The split, or the table's file.
        options: How to read the table; ``None``: the defaults.

    Raises:
        UserError: There is no such split or file, or a query is empty.
    """
    if named in dataset.qrels:
        return dataset.queries(named)
    if not Path(named).is_file():
        splits = ", ".join(dataset.qrels) or "none"
        raise UserError(
            f"--queries {named!r}: no such file, and no such split of {dataset.name!r}, which has: {splits}"
        )
    read = texts.read(tables.table(named), "queries", Reading.of(options or ReadConfig()))
    return questions((id_, f"{title} {text}".strip()) for id_, title, text in read.records())
