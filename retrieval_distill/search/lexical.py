"""BM25 beside dense search: its index, and the weights with which the two are fused, kept in a search's location.

Knows a location and the results of a searcher; must not know how a searcher is assembled, options or the terminal.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from retrieval_distill.data.generated import is_generated
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.passages import pooling
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.hybrid import FUSION_DEPTH, Fusion, FusionTuning
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


def tune(searcher: Searcher, place: SearchLocation, split: str, most: int | None = None) -> FusionTuning:
    """Tune the weights of hybrid search on a judged split, and save them.

    Args:
        searcher: Dense search.
        place: Where to save the weights.
        split: The split.
        most: Number of queries, sampled with a fixed seed; ``None``: all.

    Raises:
        UserError: The dataset has no such split.
    """
    dataset, judged = searcher.dataset, searcher.dataset.qrels(split)
    asked, depth = dataset.queries(split).sample(most, 0), dataset.in_passages(FUSION_DEPTH)
    pool, grades = pooling(dataset, {id_: judged[id_] for id_ in asked})
    found = hybrid.tune(lexical(place).search(asked, depth), searcher.dense(asked, depth), grades, pool)
    found.split, found.key = split, _key(searcher)
    found.write(place.search_folder)
    return found


def lexical(place: SearchLocation) -> BM25:
    """BM25 over the location's documents; built once."""
    from retrieval_distill.retrieval.bm25 import BM25  # slow to import

    return BM25.cached(place.search_folder / "bm25", place.dataset.documents, **place.bm25)


def _choose_fusion(searcher: Searcher, place: SearchLocation) -> Fusion | None:
    """The fusion with which a run is searched, tuned if necessary; ``None``: dense search alone.

    If tuning fails, as in a folder that cannot be written, it is dense search alone.
    """
    run, found = place.search_folder.parent, hybrid.tuned_for(place.search_folder, _key(searcher))
    if found is None:
        dataset = searcher.dataset
        if place.dev is None or not dataset.qrels.get(place.dev) or is_generated(dataset, place.dev):
            return None
        logger.info(
            "%s: comparing the student alone with the student and BM25 fused, once, on split %s", run, place.dev
        )
        try:
            found = tune(searcher, place, place.dev, MAX_TUNING_QUERIES)
            logger.info("%s", found)
        except (OSError, UserError) as error:
            logger.warning("%s: the comparison failed (%s); searching with the student alone", run, error)
            return None
    return found.chosen if found.gain.mean > 0 else None


def _tuned_fusion(searcher: Searcher, place: SearchLocation) -> Fusion:
    folder = place.search_folder
    kept = FusionTuning.read(folder)
    if kept is None:
        raise UserError(f"no tuned weights in {folder}; tune them with --tune SPLIT, or use --hybrid score:0.5")
    if kept.key != _key(searcher):
        raise UserError(
            f"{folder / kept.file}: tuned for another student, index or corpus; tune again with --tune SPLIT"
        )
    return kept.chosen


def _key(searcher: Searcher) -> str:
    return hybrid.key(searcher.index.manifest["fingerprint"], searcher.dataset.documents.fingerprint)
