"""Fuses several Runs into one, by rank or by score. Knows ranks and scores; must not know where a Run came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from retrieval_distill.data.run import Run


def reciprocal_rank_fusion(runs: Sequence[Run], k: int = 60, weights: Sequence[float] | None = None) -> Run:
    """Sum of ``weight / (k + rank)`` over the runs that found a document (rank 1 is best).

    Args:
        runs: The Runs; a document missing from one gets nothing from it.
        k: How slowly the weight of a rank falls; 60 is the paper's value.
        weights: Weight of each Run; ``None``: equal weights.

    Source: Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and Individual Rank
    Learning Methods", SIGIR 2009.
    """
    return _weighted_total(runs, [1.0 / (k + np.arange(len(run)) - _bounds(run)[0] + 1) for run in runs], weights)


def weighted_sum(runs: Sequence[Run], weights: Sequence[float] | None = None) -> Run:
    """Sum of ``weight * score``, with each run's scores of a query first scaled to 0..1 (worst to best).

    Args:
        runs: The Runs; a document missing from one gets nothing from it. If a Run's scores of a query are all equal,
            they become 1.
        weights: Weight of each Run; ``None``: equal weights.

    Source: Bruch, Gai and Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2022 (arXiv 2210.11934), the
    convex combination of min-max scaled scores.
    """
    return _weighted_total(runs, [_min_max_scaled(run) for run in runs], weights)


def _min_max_scaled(run: Run) -> np.ndarray:
    scores, (first, last) = run.frame["score"].to_numpy(np.float64), _bounds(run)
    worst, best = scores[last], scores[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(best > worst, (scores - worst) / (best - worst), 1.0)


def _bounds(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last row of each row's query; a query's rows are contiguous, best first."""
    query = run.frame["query_id"].to_numpy()
    starts = np.flatnonzero(np.append(True, query[1:] != query[:-1])) if len(query) else np.zeros(0, np.int64)
    counts = np.diff(np.append(starts, len(query)))
    return np.repeat(starts, counts), np.repeat(starts + counts - 1, counts)


def _weighted_total(runs: Sequence[Run], parts: Sequence[np.ndarray], weights: Sequence[float] | None) -> Run:
    """The weighted sum over Runs of each one's part of the documents' scores."""
    factors = [1.0] * len(runs) if weights is None else weights
    queries, docs = (pd.concat([run.frame[column] for run in runs]) for column in ("query_id", "doc_id"))
    query_codes, doc_codes = pd.factorize(queries)[0], pd.factorize(docs)[0]
    _, rows, pair = np.unique(
        query_codes * (doc_codes.max(initial=0) + 1) + doc_codes, return_index=True, return_inverse=True
    )
    weighted = np.concatenate([weight * part for weight, part in zip(factors, parts, strict=True)])
    return Run.from_columns(queries.iloc[rows], docs.iloc[rows], np.bincount(pair, weighted, len(rows)))
