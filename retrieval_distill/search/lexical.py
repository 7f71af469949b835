"""BM25 beside dense search: its index, and the weights with which the two are fused, kept in a search's location.

Knows a location and the results of a searcher; must not know how a searcher is assembled, options or the terminal.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.passages import pooling
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.hybrid import FUSION_DEPTH, Fusion
from retrieval_distill.runtime import stages
from retrieval_distill.search.location import SearchLocation

if TYPE_CHECKING:
    from retrieval_distill.retrieval.bm25 import BM25
    from retrieval_distill.search.searcher import Searcher

logger = logging.getLogger("retrieval_distill")

ALONE, TUNED = "none", "tuned"
"""Values of ``--hybrid``: dense search alone, and the tuned weights."""

MAX_TUNING_QUERIES = 1000
"""Most queries of the dev split that decide how a run is searched."""


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
    asked, depth = dataset.queries(split).sample(most, 0), dataset.in_passages(FUSION_DEPTH)
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
