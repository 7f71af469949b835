"""Candidates that the teacher left without a score: refused, dropped, or taken for the worst of their list.

Scores that cannot be of relevance, for their size, are refused too: one of them would be the whole of a loss.

Knows Runs; must not know what a score is used for.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")

How = Literal["refuse", "drop", "lowest"]

NAMED = 3
"""Pairs that a message names."""


LARGEST = 1e6
"""Size of a score that some teacher may give; logits stay below 100, inner products of long vectors below 10,000."""


def refuse_absurd(run: Run) -> Run:
    """The Run, once its scores are shown to be of a size that relevance has.

    Raises:
        UserError: One is beyond :data:`LARGEST`; the message names the first.
    """
    scores = run.frame["score"]
    absurd = run.frame[np.isfinite(scores) & (scores.abs() > LARGEST)]
    if len(absurd):
        query, doc, score = absurd[["query_id", "doc_id", "score"]].iloc[0]
        raise UserError(
            f"{len(absurd):,} of {len(run):,} teacher scores are larger than {LARGEST:g}, the first is {score:g} of "
            f"{query}/{doc} (query/document): no relevance is; score these pairs again, or scale the scores down"
        )
    return run


def settle(run: Run, how: How) -> Run:
    """A Run in which every pair has a score.

    Args:
        run: Teacher scores; NaN is a missing one.
        how: ``"refuse"`` stops; ``"drop"`` takes the candidate out of its list; ``"lowest"`` gives it the lowest score
            of its list, and takes out lists without any score.

    Raises:
        UserError: A score is missing and ``how`` is ``"refuse"``.
    """
    missing = run.frame["score"].isna()
    if not missing.any():
        return run
    pairs = run.frame[missing].head(NAMED)
    first = ", ".join(f"{query}/{doc}" for query, doc in zip(pairs["query_id"], pairs["doc_id"], strict=True))
    found = f"{missing.sum():,} of {len(run):,} candidates have no teacher score (query/document: {first})"
    if how == "refuse":
        raise UserError(f"{found}; score them, or set training.missing_scores=drop or training.missing_scores=lowest")
    logger.warning("%s; training.missing_scores=%s", found, how)
    if how == "lowest":
        lowest = run.frame.groupby("query_id")["score"].transform("min")
        run = run.rescored(run.frame["score"].fillna(lowest))
    return Run(run.frame[run.frame["score"].notna()].reset_index(drop=True))
