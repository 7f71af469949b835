"""Which of two systems people prefer: interleaved results, and results side by side without names.

Knows rankings and a log's searches; must not know measures or models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import binomtest

from retrieval_distill.feedback.log import Feedback, FeedbackLog, Search

Team = Literal["first", "second", "neither"]
"""Which of two systems a click on a document counts for."""


@dataclass(frozen=True)
class Verdict:
    """How often people preferred the first of two systems."""

    first: str
    second: str
    wins: int
    """Number of searches in which the first had more clicks, or was preferred."""
    losses: int
    ties: int
    """Number of searches in which both had equally many clicks (at least one), or neither was preferred."""
    share: float | None
    """Wins / (wins + losses); ``None``: there are neither."""
    low: float
    """Lower end of the share's 95 % interval (Clopper and Pearson's)."""
    high: float
    p: float
    """Two-sided p-value of the sign test; 1.0 if there are neither wins nor losses."""


def team_draft(
    first: Sequence[str],
    second: Sequence[str],
    *,
    depth: int,
    seed: int | np.random.Generator | None = None,
) -> list[tuple[str, Team]]:
    """Interleave two rankings: in each round, in random order, each system adds its best document not yet chosen.

    Once a system has nothing to add, no comparison is fair any more; the other's documents fill the list and count for
    neither.

    Radlinski, Kurup, Joachims: How does clickthrough data reflect retrieval quality?, CIKM 2008, algorithm 2.

    Args:
        first: Document ids of one system, from the top.
        second: Those of the other.
        depth: Greatest number of documents.
        seed: Random seed or generator; ``None``: another order each time.

    Returns:
        Document ids with the team that each belongs to, from the top.

    Example:
        >>> team_draft(["a", "b", "c"], ["a", "c", "d"], depth=3, seed=0)
        [('a', 'second'), ('b', 'first'), ('c', 'first')]
    """
    rng = np.random.default_rng(seed)
    chosen: dict[str, Team] = {}
    rest: list[tuple[str, Team]]
    sizes = {"first": 0, "second": 0}
    while len(chosen) < depth:
        left = next((doc_id for doc_id in first if doc_id not in chosen), None)
        right = next((doc_id for doc_id in second if doc_id not in chosen), None)
        if left is None or right is None:
            rest = [(doc_id, "neither") for doc_id in dict.fromkeys((*first, *second)) if doc_id not in chosen]
            return [*chosen.items(), *rest[: depth - len(chosen)]]
        lead = sizes["first"] - sizes["second"]
        team: Literal["first", "second"] = "first" if lead < 0 or (lead == 0 and rng.random() < 0.5) else "second"
        chosen[left if team == "first" else right] = team
        sizes[team] += 1
    return list(chosen.items())


def interleaving_verdicts(feedback: Feedback | FeedbackLog) -> list[Verdict]:
    """For each pair of interleaved systems, which got the clicks; searches without clicks count for nothing.

    Searches count as independent: many of one person make the interval too narrow.
    """
    searches = _read(feedback).searches.values()
    return _verdicts((s.system, s.against, _lead(s)) for s in searches if s.against is not None and s.clicks)


def preference_verdicts(feedback: Feedback | FeedbackLog) -> list[Verdict]:
    """For each pair of systems that were shown side by side, which was preferred."""
    signs = {"left": 1, "right": -1, "tie": 0}
    return _verdicts((p.left.system, p.right.system, signs[p.preferred]) for p in _read(feedback).preferences)


def verdict(wins: int, losses: int, ties: int, *, first: str = "first", second: str = "second") -> Verdict:
    """The share of wins with its interval, and the sign test's p; ties count for neither."""
    if not wins + losses:
        return Verdict(first, second, wins, losses, ties, None, 0.0, 1.0, 1.0)
    test = binomtest(wins, wins + losses)
    bounds = test.proportion_ci(confidence_level=0.95, method="exact")
    share = wins / (wins + losses)
    return Verdict(first, second, wins, losses, ties, share, float(bounds.low), float(bounds.high), float(test.pvalue))


def _read(feedback: Feedback | FeedbackLog) -> Feedback:
    return feedback.read("skip") if isinstance(feedback, FeedbackLog) else feedback


def _lead(search: Search) -> int:
    """Clicks of the first team minus those of the second."""
    signs = {"first": 1, "second": -1, "neither": 0}
    teams = dict(zip(search.shown, search.teams or (), strict=True))
    return sum(signs[teams[doc_id]] for doc_id in search.clicks)


def _verdicts(leads: Iterable[tuple[str, str, int]]) -> list[Verdict]:
    """One verdict for each pair of different systems, whichever came first in a search."""
    counts: dict[tuple[str, str], dict[int, int]] = {}
    for first, second, lead in leads:
        if first == second:
            continue
        flipped = (second, first) in counts
        pair = (second, first) if flipped else (first, second)
        sign = (lead > 0) - (lead < 0)
        of_pair = counts.setdefault(pair, {1: 0, -1: 0, 0: 0})
        of_pair[-sign if flipped else sign] += 1
    return [verdict(n[1], n[-1], n[0], first=first, second=second) for (first, second), n in counts.items()]
