"""Puts one teacher's scores on another scale: normalises them per query, or undoes a sigmoid.

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
"""Distance from 1 to the next lower float32. Probabilities are clipped to this distance from 0 and 1, so logits are
recovered between -16.6 and 16.6."""

MIN_DISTINCT = 20
"""With fewer distinct values, scores between 0 and 1 may be grades, or a few logits."""

MAX_TIED = 0.01
"""Share of scores that may be saturated or equal before too much of the order is lost."""


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
    """Check the name of a normalisation.

    Raises:
        UserError: The name is unknown; the message suggests the nearest one.
    """
    if how not in NORMALISATIONS:
        raise UserError(f"normalisation {how!r} is unknown{nearest(how, NORMALISATIONS)}")


def normalise(run: Run, how: str, temperature: float = 1.0) -> Run:
    """Put scores on a common scale, per query; the order within a query does not change.

    | how | scores of a query |
    |---|---|
    | none | unchanged |
    | z-score | minus their mean, divided by their population standard deviation; 0 if all are equal |
    | min-max | from 0 (worst) to 1 (best); 0.5 if all are equal |
    | rank | from 0 (worst) to 1 (best) in equal steps, mean ranks for ties; 0.5 if all are equal |
    | temperature | divided by ``temperature``, which the others ignore |

    A single document counts as a list of equal scores.

    Args:
        run: Raw scores, finite.
        how: A name in ``NORMALISATIONS``.
        temperature: Above 0; above 1 softens.

    Raises:
        UserError: The name is unknown, or the temperature is not above 0.
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
    """Whether scores look squashed by a sigmoid: all between 0 and 1, with at least 20 distinct values.

    Logits of hundreds of pairs hardly ever all lie between 0 and 1. If they do, undoing a sigmoid that was never
    applied keeps their order and, between 0.1 and 0.9, almost their proportions. Fewer distinct values may be grades,
    or too few to tell. Not for cosine similarities of a bi-encoder, which can all lie between 0 and 1.
    """
    scores = run.frame["score"].to_numpy(float)
    return bool(len(scores) and scores.min() >= 0 and scores.max() <= 1 and len(np.unique(scores)) >= MIN_DISTINCT)


def unsquash(run: Run, name: str = "the run") -> Run:
    """Undo a sigmoid; the resulting logits lie between -16.6 and 16.6.

    Args:
        run: Scores from 0 to 1.
        name: The teacher, for messages.

    Raises:
        UserError: A score lies outside 0 to 1, or the order is lost: more than 1 % of the scores, and more than 2
        (which
            may be copies of one text), are exactly 0 or 1 in float32 or share one value.
    """
    scores = run.frame["score"].to_numpy(float)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise UserError(f"{name}: some scores lie outside 0 to 1, so they did not go through a sigmoid")
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
