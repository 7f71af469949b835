"""Filters false negatives: unjudged documents that the teacher considers relevant.

Knows a teacher's scores and judgements; must not know texts, models or how candidates were found.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import expit

from retrieval_distill.config.mining import FilterConfig
from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.relevance import relevance
from retrieval_distill.data.run import Run

Removed = Callable[[pd.DataFrame, float], pd.Series]
"""(pairs as :func:`with_positives` gives them, limit) -> which pairs the rule removes."""

RULES: dict[str, Removed] = {
    "lowest": lambda pairs, limit: pairs["score"] < limit,
    "highest": lambda pairs, limit: pairs["score"] > limit,
    "margin": lambda pairs, limit: pairs["score"] >= pairs["positive"] - limit,
    "share_of_positive": lambda pairs, limit: expit(pairs["score"]) >= limit * expit(pairs["positive"]),
    "share_of_best": lambda pairs, limit: expit(pairs["score"]) >= limit * expit(pairs["best"]),
}
"""The keys of the recipe's ``mining.filter``; without a positive, comparisons with it remove nothing."""


def with_positives(scored: Run, qrels: Qrels) -> pd.DataFrame:
    """A Run's frame with ``relevant``, ``positive`` (lowest score of a relevant document of the query) and ``best``."""
    pairs = scored.frame.assign(relevant=relevance(scored, qrels))
    positives = pairs[pairs["relevant"]].groupby("query_id")["score"].min()
    best = pairs.groupby("query_id")["score"].max()
    return pairs.assign(positive=pairs["query_id"].map(positives), best=pairs["query_id"].map(best))


def keep_negatives(scored: Run, qrels: Qrels, config: FilterConfig) -> tuple[Run, dict[str, int]]:
    """The relevant documents of a scored Run, and the other ones that pass every rule.

    Args:
        scored: Candidates with a teacher's scores; one without a score (NaN) passes.
        qrels: Which of them are relevant.
        config: The rules.

    Returns:
        The Run, and the number of documents that each rule alone would remove.
    """
    pairs = with_positives(scored, qrels)
    removed = np.zeros(len(pairs), bool)
    counts = {}
    for rule, limit in config.model_dump(exclude_none=True).items():
        fails = (RULES[rule](pairs, limit) & ~pairs["relevant"]).to_numpy(bool)
        counts[rule] = int(fails.sum())
        removed |= fails
    return Run(scored.frame[~removed].reset_index(drop=True)), counts
