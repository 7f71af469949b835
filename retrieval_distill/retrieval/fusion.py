"""Fusing several Runs into one, by rank or by score. Knows ranks and scores; must not know where a Run came from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from retrieval_distill.data.run import Run


def reciprocal_rank_fusion(runs: Sequence[Run], k: int = 60, weights: Sequence[float] | None = None) -> Run:
    """Sum of ``weight / (k + rank)`` over the runs that found a document (rank 1 is best).

    Args:
        runs: What to fuse; a document missing from a run gets nothing from it.
        k: How slowly the weight of a rank falls; 60 is the paper's value.
        weights: How much each run counts; ``None``: all alike.

    Source: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and Individual Rank
    Learning Methods", SIGIR 2009.
    """
    ranks = [run.frame.groupby("query_id", sort=False).cumcount() + 1 for run in runs]
    return _summed(runs, [1.0 / (k + rank) for rank in ranks], weights)


def weighted_sum(runs: Sequence[Run], weights: Sequence[float] | None = None) -> Run:
    """Sum of ``weight * score``, where each run's scores of a query are first brought to 0..1 (its worst, its best).

    Args:
        runs: What to fuse; a document missing from a run gets nothing from it. A run whose scores of a query are all
            equal gives them 1.
        weights: How much each run counts; ``None``: all alike.

    Source: Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2022 (arXiv 2210.11934), the
    convex combination of min-max scaled scores.
    """
    return _summed(runs, [_scaled(run) for run in runs], weights)


def _scaled(run: Run) -> pd.Series:
    scores = run.frame.groupby("query_id", sort=False)["score"]
    worst, best = scores.transform("min"), scores.transform("max")
    return ((run.frame["score"] - worst) / (best - worst)).where(best > worst, 1.0)


def _summed(runs: Sequence[Run], parts: Sequence[pd.Series], weights: Sequence[float] | None) -> Run:
    """Each run's part of the score of its documents, by weight, added up over the runs."""
    factors = [1.0] * len(runs) if weights is None else weights
    frames = [run.frame.assign(score=weight * part) for run, part, weight in zip(runs, parts, factors, strict=True)]
    fused = pd.concat(frames).groupby(["query_id", "doc_id"], sort=False, as_index=False)["score"].sum()
    return Run.from_columns(fused["query_id"], fused["doc_id"], fused["score"])
