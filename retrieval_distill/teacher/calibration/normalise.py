"""One teacher's scores on another scale: normalised per query, or a sigmoid undone.

Knows Runs; must not know judgements, models or stores.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest

FLOOR = 2.0**-24
"""The distance from 1 of the float32 just below it. Probabilities are kept this far from 0 and from 1, so logits are
recovered within -16.6 to 16.6."""

MIN_DISTINCT = 20
"""Distinct values below which scores between 0 and 1 may be grades, or a handful of logits."""

MAX_TIED = 0.01
"""Share of scores that may be saturated, or share one value, before too much of the order is lost."""


def _none(scores: pd.Series, lists: Any, temperature: float) -> pd.Series:
    return scores


def _z_score(scores: pd.Series, lists: Any, temperature: float) -> pd.Series:
    spread = lists.transform("std", ddof=0)  # pandas updates it a row at a time, so that equal scores give exactly 0
    return ((scores - lists.transform("mean")) / spread.where(spread > 0, np.inf)).astype(float)


def _min_max(scores: pd.Series, lists: Any, temperature: float) -> pd.Series:
    low, high = lists.transform("min"), lists.transform("max")
    return ((scores - low) / (high - low).where(high > low, 1.0)).where(high > low, 0.5)


def _rank(scores: pd.Series, lists: Any, temperature: float) -> pd.Series:
    size = lists.transform("size")
    return ((size - lists.rank(ascending=False)) / (size - 1).clip(lower=1)).where(size > 1, 0.5)


def _temperature(scores: pd.Series, lists: Any, temperature: float) -> pd.Series:
    return scores / temperature


NORMALISATIONS: dict[str, Callable[[pd.Series, Any, float], pd.Series]] = {
    "none": _none,
    "z-score": _z_score,
    "min-max": _min_max,
    "rank": _rank,
    "temperature": _temperature,
}
"""Name -> (scores, the same grouped by query, temperature) -> new scores in the same rows."""


def check_name(how: str) -> None:
    """Refuse a name that is no normalisation.

    Raises:
        UserError: The name is unknown; the message holds the nearest one.
    """
    if how not in NORMALISATIONS:
        raise UserError(f"normalisation {how!r} is unknown{nearest(how, NORMALISATIONS)}")


def normalise(run: Run, how: str, temperature: float = 1.0) -> Run:
    """The same pairs with scores on a common scale; the order within a query stays.

    | how | a query's scores become |
    |---|---|
    | none | what they are |
    | z-score | minus their mean, over their population standard deviation; equal scores all 0 |
    | min-max | worst 0 to best 1; equal scores all 0.5 |
    | rank | worst 0 to best 1 in equal steps, ties share their mean rank; equal scores all 0.5 |
    | temperature | divided by ``temperature``, which nothing else uses |

    A single document counts as a list of equal scores.

    Args:
        run: Raw scores, finite.
        how: A name in ``NORMALISATIONS``.
        temperature: Above 0; above 1 softens.

    Raises:
        UserError: The name is unknown, or the temperature not above 0.
    """
    check_name(how)
    if not temperature > 0:
        raise UserError(f"a temperature must be above 0, not {temperature}")
    if how == "none" or not len(run):
        return run
    scores = run.frame["score"].astype(float)
    lists = scores.groupby(pd.factorize(run.frame["query_id"])[0], sort=False)
    return run.with_scores(NORMALISATIONS[how](scores, lists, temperature).to_numpy())


def is_squashed(run: Run) -> bool:
    """Whether scores look like a sigmoid's: all from 0 to 1, and at least 20 different ones.

    Logits of hundreds of pairs hardly ever all fall into 0 to 1. Where they do, undoing a sigmoid that never was keeps
    their order and, between 0.1 and 0.9, nearly their proportions. Fewer values may be grades, or a run too small to
    tell. Cosine similarities of a bi-encoder can lie in 0 to 1 too: ask this of probabilities only.
    """
    scores = run.frame["score"].to_numpy(float)
    return bool(len(scores) and scores.min() >= 0 and scores.max() <= 1 and len(np.unique(scores)) >= MIN_DISTINCT)


def unsquash(run: Run, name: str = "the run") -> Run:
    """The logits whose sigmoid the scores are, within -16.6 to 16.6.

    Args:
        run: Scores from 0 to 1.
        name: Whose scores they are, for messages.

    Raises:
        UserError: A score lies outside 0 to 1, or the sigmoid has lost the order: more than 1 % of the scores (and more
            than 2, which may be copies of one text) are exactly 0 or 1 to float32, or share one value.
    """
    scores = run.frame["score"].to_numpy(float)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise UserError(f"{name}: scores outside 0 to 1 are no sigmoid's, so that no sigmoid can be undone")
    clipped = np.clip(scores, FLOOR, 1 - FLOOR)
    allowed = max(MAX_TIED * len(scores), 2)
    saturated = int(((clipped == FLOOR) | (clipped == 1 - FLOOR)).sum())
    alike = int(np.unique(clipped, return_counts=True)[1].max(initial=0))
    for lost, fault in ((saturated, "are 0 or 1 to float32's precision"), (alike, "share one value")):
        if lost > allowed:
            raise UserError(
                f"{name}: the scores went through a sigmoid, and {lost:,} of {len(scores):,} {fault}: their order is "
                "lost and cannot be restored; score again with raw logits (identity activation), or keep the scores as "
                "they are with squashed=keep"
            )
    return run.with_scores(np.log(clipped) - np.log1p(-clipped))
