"""Assembles a searcher from a location: dense search, and fusion with BM25 as tuned there.

Knows a location and a searcher; must not know options or the terminal.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.bounds import Count, bounded
from retrieval_distill.config import ReadConfig, TeacherConfig, parse
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.formats import tables, texts
from retrieval_distill.data.formats.reading import Reading
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.passages import pooling
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.runtime import stages
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.search.questions import questions
from retrieval_distill.search.searcher import FUSION_DEPTH, Searcher

if TYPE_CHECKING:
    from retrieval_distill.retrieval.bm25 import BM25

logger = logging.getLogger("retrieval_distill")

ALONE, TUNED = "none", "tuned"
"""Values of ``--hybrid``: dense search alone, and the tuned weights."""

SAMPLE_DOCUMENTS = 8
"""Number of documents on which a light encoder is checked, in full and truncated."""

MAX_TUNING_QUERIES = 1000
"""Most queries of the dev split that decide how a run is searched."""


def of_run(folder: Path, dtype: str = "float32") -> Searcher:
    """The searcher of a finished run, as the command ``search`` uses it by default.

    Raises:
        UserError: The folder holds no finished run, or a part of it is damaged.
    """
    place = SearchLocation.of_run(folder)
    return with_fusion(open_searcher(place, dtype), place, None)


def open_searcher(place: SearchLocation, dtype: str = "float32") -> Searcher:
    """Dense search of a location. Keeps a light encoder there, with which it opens faster the next time.

    Args:
        place: Where its parts are.
        dtype: What the model computes in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.

    Raises:
        UserError: The model is not the one that embedded the documents, or the index is damaged.
    """
    searcher = Searcher.open(place.index, place.model, place.dataset, dtype)
    long = place.dataset.documents.at(np.arange(min(SAMPLE_DOCUMENTS, len(place.dataset.documents)))).take()
    texts, model = [*long, *(text[:60] for text in long)], searcher.index.manifest["inputs"]["model"]
    return replace(searcher, encoder=searcher.encoder.with_light_encoder(place.search_folder / "encoder", model, texts))


def with_fusion(searcher: Searcher, place: SearchLocation, fusion: str | None) -> Searcher:
    """Add BM25 and fusion to a searcher, or return it unchanged.

    Args:
        searcher: Dense search.
        place: Where BM25's index and the weights are kept.
        fusion: ``"none"``, ``"tuned"``, or weights as :func:`retrieval_distill.retrieval.hybrid.parse` reads them;
            ``None``: what is better on the run's dev queries, which is decided once; outside of a run ``"none"``.

    Raises:
        UserError: No weights were tuned, they were tuned for something else, or ``fusion`` is malformed.
    """
    if fusion == ALONE or (fusion is None and place.dev is None):
        return searcher
    if fusion is None:
        chosen = _choose_fusion(searcher, place)
    else:
        chosen = _tuned_fusion(searcher, place) if fusion == TUNED else hybrid.parse(fusion)
    return searcher if chosen is None else replace(searcher, lexical=lexical(place), fusion=chosen)


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
            ``bi-encoder:NAME``, ``bm25``, ``llm:NAME`` or ``scores:FILE``; ``None``: no reranking.
        rerank_depth: Documents that the teacher of ``rerank`` reads.
        where: SQL condition on the columns of ``metadata`` that found documents must meet; ``None``: no condition.
        metadata: Table of these columns; ``None``: the corpus.

    Raises:
        UserError: As :func:`with_fusion`; there is no such teacher, or the condition does not fit the table.
    """
    searcher = with_fusion(searcher, place, hybrid)
    if rerank is not None:
        from retrieval_distill.teacher import load

        config = parse(TeacherConfig, {"model": rerank, "bm25": place.bm25}, "teacher")
        teacher = load.load(config, load.Corpus(place.dataset.documents))
        searcher = replace(searcher, teacher=teacher, store=place.search_folder / "scores", rerank_depth=rerank_depth)
    if where is not None:
        from retrieval_distill.search import document_filter

        table = Path(metadata) if metadata else document_filter.table_of(place.source, place.cache)
        names = document_filter.ID_NAMES if metadata else place.id_names
        searcher = replace(searcher, allowed=document_filter.allowed_documents(where, table, place.dataset, names))
    return searcher


def tune(searcher: Searcher, place: SearchLocation, split: str, most: int | None = None) -> dict[str, Any]:
    """Tune the weights of hybrid search on a judged split, and save them.

    Args:
        searcher: Dense search.
        place: Where to save the weights.
        split: The split.
        most: Number of queries, sampled with a fixed seed; ``None``: all.

    Returns:
        As :func:`retrieval_distill.retrieval.hybrid.tune`, and the ``split``.

    Raises:
        UserError: The dataset has no such split.
    """
    dataset, judged = searcher.dataset, searcher.dataset.qrels(split)
    asked, depth = dataset.queries(split).drawn(most, 0), dataset.in_passages(FUSION_DEPTH)
    pool, grades = pooling(dataset, {id_: judged[id_] for id_ in asked})
    found = hybrid.tune(lexical(place).search(asked, depth), searcher.dense(asked, depth), grades, pool)
    found |= {"split": split, "key": _key(searcher)}
    stages.write_json(place.search_folder / hybrid.FILE, found)
    return found


def lexical(place: SearchLocation) -> BM25:
    """BM25 over the location's documents; built once."""
    from retrieval_distill.retrieval.bm25 import BM25  # slow to import

    return BM25.cached(place.search_folder / "bm25", place.dataset.documents, **place.bm25)


def _choose_fusion(searcher: Searcher, place: SearchLocation) -> Fusion | None:
    """The fusion with which a run is searched, tuned if necessary; ``None``: dense search alone.

    If tuning fails, as in a folder that cannot be written, it is dense search alone.
    """
    file, key, run = place.search_folder / hybrid.FILE, _key(searcher), place.search_folder.parent
    if hybrid.beats_dense(file, key) is None:
        if place.dev is None or not searcher.dataset.qrels.get(place.dev):
            return None
        logger.info(
            "%s: comparing the student alone with the student and BM25 fused, once, on split %s", run, place.dev
        )
        try:
            logger.info("%s", hybrid.sentence(tune(searcher, place, place.dev, MAX_TUNING_QUERIES)))
        except (OSError, UserError) as error:
            logger.warning("%s: the comparison failed (%s); searching with the student alone", run, error)
            return None
    return hybrid.load(file) if hybrid.beats_dense(file, key) else None


def _tuned_fusion(searcher: Searcher, place: SearchLocation) -> Fusion:
    file = place.search_folder / hybrid.FILE
    try:
        kept = hybrid.load(file)
    except UserError as error:
        raise UserError(f"{error}; tune again with --tune SPLIT") from None
    if kept is None:
        raise UserError(
            f"no tuned weights in {place.search_folder}; tune them with --tune SPLIT, or use --hybrid rank:0.5"
        )
    if hybrid.beats_dense(file, _key(searcher)) is None:
        raise UserError(f"{file}: tuned for another student, index or corpus; tune again with --tune SPLIT")
    return kept


def _key(searcher: Searcher) -> str:
    return hybrid.key(searcher.index.manifest["fingerprint"], searcher.dataset.documents.fingerprint)


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
