"""Candidates without a teacher score: refuse them, drop them, or give them the lowest score of their list.

Scores too large to mean relevance are refused too, because a single one would dominate the loss. Knows Runs; must not
know what a score is used for.
"""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

logger = logging.getLogger("retrieval_distill")

How = Literal["refuse", "drop", "lowest"]

SHOWN = 3
"""Number of pairs shown in a message."""

LARGEST = 1e6
"""Largest magnitude of a plausible score; logits stay below 100, inner products of long vectors below 10,000."""


def check_magnitudes(run: Run) -> Run:
    """Return the Run unchanged if no score exceeds :data:`LARGEST` in magnitude.

    Raises:
        UserError: A score does; the message names the first one.
    """
    scores = run.frame["score"]
    absurd = run.frame[np.isfinite(scores) & (scores.abs() > LARGEST)]
    if len(absurd):
        query, doc, score = absurd[["query_id", "doc_id", "score"]].iloc[0]
        raise UserError(
            f"{len(absurd):,} of {counted(len(run), 'teacher score')} are larger than {LARGEST:g}, the first is "
            f"{score:g} of {query}/{doc} (query/document), too large to mean relevance; score these pairs "
            "again, or scale the scores down"
        )
    return run


def resolve(run: Run, how: How) -> Run:
    """A Run in which every pair has a score.

    Args:
        run: Teacher scores; a missing one is NaN.
        how: ``"refuse"`` raises an error; ``"drop"`` removes the candidate; ``"lowest"`` gives it the lowest score of
            its list, and removes lists without any score.

    Raises:
        UserError: A score is missing and ``how`` is ``"refuse"``.
    """
    missing = run.frame["score"].isna()
    if not missing.any():
        return run
    pairs = run.frame[missing].head(SHOWN)
    first = ", ".join(f"{query}/{doc}" for query, doc in zip(pairs["query_id"], pairs["doc_id"], strict=True))
    found = f"{missing.sum():,} of {counted(len(run), 'candidate')} have no teacher score (query/document: {first})"
    if how == "refuse":
        raise UserError(f"{found}; score them, or set training.missing_scores=drop or training.missing_scores=lowest")
    logger.warning("%s; training.missing_scores=%s", found, how)
    if how == "lowest":
        lowest = run.frame.groupby("query_id")["score"].transform("min")
        run = run.with_scores(run.frame["score"].fillna(lowest))
    return Run(run.frame[run.frame["score"].notna()].reset_index(drop=True))
