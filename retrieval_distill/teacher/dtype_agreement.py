"""The effect of a teacher's reduced precision on its rankings.

Knows Runs and teachers by name; must not know how either works.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau

from retrieval_distill.config import MemberConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.hardware import devices
from retrieval_distill.runtime.progress import progress
from retrieval_distill.scores.teacher_contract import Teacher
from retrieval_distill.teacher import teacher_loader
from retrieval_distill.teacher.scoring import pairs_of


def compare_with_float32(
    config: MemberConfig, scored: Run, queries: Texts, documents: Texts
) -> dict[str, str | float] | None:
    """:func:`rank_agreement` of a cross-encoder with itself in float32; ``None`` if it computes in float32 anyway.

    Args:
        config: The teacher that scored.
        scored: Its raw scores.
        queries: Texts of the run's queries.
        documents: Texts of its documents.
    """
    kind, name = teacher_loader.split(config.model)
    dtype = devices.dtype_name(config.dtype)
    if kind != "cross-encoder" or dtype == "float32":
        return None
    reference = teacher_loader.load(config.model_copy(update={"dtype": "float32"}))
    return {"model": name, "dtype": dtype, **rank_agreement(scored, reference, queries, documents)}


def rank_agreement(
    scored: Run, reference: Teacher, queries: Texts, documents: Texts, sample: int = 40, seed: int = 0
) -> dict[str, float]:
    """Score the candidates of some queries with a reference teacher, and compare the rankings.

    Args:
        scored: Raw scores of the fast teacher.
        reference: The same teacher in float32.
        queries: Texts of the run's queries.
        documents: Texts of its documents.
        sample: Number of queries, sampled among those with at least two candidates.
        seed: Random seed of the sample.

    Returns:
        ``queries``, ``pairs``, ``kendall_tau`` (mean tau-b over the queries), ``same_first`` (share of queries whose
        best document is the same) and ``max_difference``, the largest between two raw scores of a pair.
    """
    counts = scored.frame["query_id"].value_counts(sort=False)
    able = counts.index[counts > 1].to_numpy(object)
    if not len(able):
        return {"queries": 0, "pairs": 0}
    drawn = np.random.default_rng(seed).choice(able, min(sample, len(able)), replace=False)
    fast = scored.select(list(drawn))
    exact = np.empty(len(fast))
    with progress("scoring a sample in float32 to compare", len(fast), "pair") as advance:
        for positions, scores in reference.score(pairs_of(fast, queries, documents)):
            exact[positions] = scores
            advance(len(positions))
    both = fast.frame.assign(exact=exact)
    taus, first = [], []
    for _, rows in both.groupby("query_id", sort=False):
        taus.append(kendalltau(rows["score"], rows["exact"]).statistic)
        first.append(rows["score"].argmax() == rows["exact"].argmax())
    return {
        "queries": len(drawn),
        "pairs": len(fast),
        "kendall_tau": float(np.nanmean(taus)) if np.isfinite(taus).any() else 1.0,
        "same_first": float(np.mean(first)),
        "max_difference": float(np.abs(both["score"] - both["exact"]).max()),
    }
