"""What a search is asked to do beyond dense retrieval, put together from what is kept beside the index.

Knows a place and a searcher; must not know options or the terminal.
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
from retrieval_distill.data.formats.contract import Reading
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.passages import pooling
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.runtime import stages
from retrieval_distill.search.location import Place
from retrieval_distill.search.questions import questions
from retrieval_distill.search.searcher import FUSED, Searcher

if TYPE_CHECKING:
    from retrieval_distill.retrieval.bm25 import BM25

logger = logging.getLogger("retrieval_distill")

ALONE, TUNED = "none", "tuned"
"""Words for ``--hybrid``: dense search alone, and the weights that were kept."""

TRIED = 8
"""Documents that a light encoder is tried on, whole and by their beginnings."""

ENOUGH = 1000
"""Queries of the dev split that decide how a run is searched, at most."""


def of_run(folder: Path, dtype: str = "float32") -> Searcher:
    """A finished run's searcher as the command ``search`` has it without options.

    Raises:
        UserError: The folder holds no finished run, or a part of it is damaged.
    """
    place = Place.of_run(folder)
    return fused(opened(place, dtype), place, None)


def opened(place: Place, dtype: str = "float32") -> Searcher:
    """Dense search of a place, ready for a question; what makes it ready quickly the next time is kept there.

    Args:
        place: Where its parts are.
        dtype: What the model computes in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.

    Raises:
        UserError: The model is not the one that embedded the documents, or the index is damaged.
    """
    searcher = Searcher.open(place.index, place.model, place.dataset, dtype)
    long = place.dataset.documents.at(np.arange(min(TRIED, len(place.dataset.documents)))).take()
    texts, model = [*long, *(text[:60] for text in long)], searcher.index.manifest["inputs"]["model"]
    return replace(searcher, encoder=searcher.encoder.with_light_encoder(place.beside / "encoder", model, texts))


def fused(searcher: Searcher, place: Place, fusion: str | None) -> Searcher:
    """The searcher with BM25 beside it, whose index is kept on disk, or as it is.

    Args:
        searcher: Dense search.
        place: Where BM25's index and the weights are kept.
        fusion: ``"none"``, ``"tuned"``, or weights as :func:`retrieval_distill.retrieval.hybrid.parse` reads them;
            ``None``: what the run's dev queries find better, which is found out once and kept; of no run ``"none"``.

    Raises:
        UserError: No weights were tuned, they were tuned for something else, or they are not written as they should be.
    """
    if fusion == ALONE or (fusion is None and place.dev is None):
        return searcher
    if fusion is None:
        chosen = _decided(searcher, place)
    else:
        chosen = _tuned(searcher, place) if fusion == TUNED else hybrid.parse(fusion)
    return searcher if chosen is None else replace(searcher, lexical=lexical(place), fusion=chosen)


@bounded
def equipped(
    searcher: Searcher,
    place: Place,
    *,
    hybrid: str | None = None,
    rerank: str | None = None,
    rerank_depth: Count = 30,
    where: str | None = None,
    metadata: str | Path | None = None,
) -> Searcher:
    """The searcher with all that is asked for beside dense search.

    Args:
        searcher: Dense search.
        place: Where what is needed for it is kept.
        hybrid: How BM25 is fused with it: ``"none"``, ``"tuned"``, or weights such as ``score:0.7``; ``None``: as
            a run's dev queries find better, else not at all.
        rerank: Teacher that reorders what was found: a cross-encoder (hub id, folder, ``starter``),
            ``bi-encoder:NAME``, ``llm:NAME`` or ``scores:FILE``; ``None``: none does.
        rerank_depth: Documents that the teacher of ``rerank`` reads.
        where: Condition of SQL that documents meet to be found, over the columns of ``metadata``; ``None``: all are.
        metadata: Table of these columns; ``None``: the corpus.

    Raises:
        UserError: As :func:`fused`; there is no such teacher, or the condition cannot be asked of the table.
    """
    searcher = fused(searcher, place, hybrid)
    if rerank is not None:
        from retrieval_distill.teacher import load

        teacher = load.load(parse(TeacherConfig, {"model": rerank}, "teacher"))
        searcher = replace(searcher, teacher=teacher, store=place.beside / "scores", rerank_depth=rerank_depth)
    if where is not None:
        from retrieval_distill.search import filters

        table = Path(metadata) if metadata else filters.table_of(place.source, place.cache)
        names = filters.ID_NAMES if metadata else place.id_names
        searcher = replace(searcher, allowed=filters.allowed(where, table, place.dataset, names))
    return searcher


def tune(searcher: Searcher, place: Place, split: str, most: int | None = None) -> dict[str, Any]:
    """Tune the weights of hybrid search on a judged split, and keep them.

    Args:
        searcher: Dense search.
        place: Where the weights are kept.
        split: Of the dataset.
        most: Queries, drawn by a fixed seed; ``None``: all.

    Returns:
        As :func:`retrieval_distill.retrieval.hybrid.tune`, and the ``split``.

    Raises:
        UserError: The dataset has no such split.
    """
    dataset, judged = searcher.dataset, searcher.dataset.qrels(split)
    asked, depth = dataset.queries(split).drawn(most, 0), dataset.in_passages(FUSED)
    pool, grades = pooling(dataset, {id_: judged[id_] for id_ in asked})
    found = hybrid.tune(lexical(place).search(asked, depth), searcher.dense(asked, depth), grades, pool)
    found |= {"split": split, "key": _key(searcher)}
    stages.write_json(place.beside / hybrid.FILE, found)
    return found


def lexical(place: Place) -> BM25:
    """BM25 over the place's documents; built once."""
    from retrieval_distill.retrieval.bm25 import BM25  # slow to import

    return BM25.kept(place.beside / "bm25", place.dataset.documents, **place.bm25)


def _decided(searcher: Searcher, place: Place) -> Fusion | None:
    """The fusion that a run is searched with, ``None``: dense search alone; tuned first if that was never done.

    Where that cannot be done, such as in a folder that cannot be written to, dense search has to do.
    """
    file, key, run = place.beside / hybrid.FILE, _key(searcher), place.beside.parent
    if hybrid.is_better(file, key) is None:
        if place.dev is None or not searcher.dataset.qrels.get(place.dev):
            return None
        what = "the student alone, or fused with BM25? Asking the split"
        logger.info("%s: %s %s, once for this student and corpus ...", run, what, place.dev)
        try:
            logger.info("%s", hybrid.sentence(tune(searcher, place, place.dev, ENOUGH)))
        except (OSError, UserError) as error:
            logger.warning("%s: not found out (%s); the student searches alone", run, error)
            return None
    return hybrid.load(file) if hybrid.is_better(file, key) else None


def _tuned(searcher: Searcher, place: Place) -> Fusion:
    file = place.beside / hybrid.FILE
    try:
        kept = hybrid.load(file)
    except UserError as error:
        raise UserError(f"{error}; tune again with --tune SPLIT") from None
    if kept is None:
        raise UserError(f"no weights are kept in {place.beside}: tune them with --tune SPLIT, or say --hybrid rank:0.5")
    if hybrid.is_better(file, _key(searcher)) is None:
        raise UserError(f"{file}: tuned for another student, index or corpus; tune again with --tune SPLIT")
    return kept


def _key(searcher: Searcher) -> str:
    return hybrid.key(searcher.index.manifest["fingerprint"], searcher.dataset.documents.fingerprint)


def queries(dataset: Dataset, named: str, options: ReadConfig | None = None) -> Texts:
    """Queries to answer: those of a split of the dataset, or of a table with the columns ``id`` and ``text``.

    Args:
        dataset: Whose splits are looked through first.
        named: The split, or the table's file.
        options: How the table is read; ``None``: the defaults.

    Raises:
        UserError: There is neither, or a query is empty.
    """
    if named in dataset.qrels:
        return dataset.queries(named)
    if not Path(named).is_file():
        splits = ", ".join(dataset.qrels) or "none"
        raise UserError(f"--queries {named!r}: no such file, and no split of {dataset.name!r}, which has: {splits}")
    read = texts.read(tables.table(named), "queries", Reading.of(options or ReadConfig()))
    return questions((id_, f"{title} {text}".strip()) for id_, title, text in read.records())
