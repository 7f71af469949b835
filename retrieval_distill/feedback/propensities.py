"""How likely people look at each rank: a fixed model, or measured by random swaps.

Source: Joachims, Swaminathan, Schnabel: Unbiased learning-to-rank with biased feedback, WSDM 2017, arXiv:1608.04468;
section 3 (inverse propensity), section 5 (swaps), section 6 (the model 1 / rank^eta).

Knows searches and ranks; must not know texts or documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import isotonic_regression

from retrieval_distill.errors import UserError
from retrieval_distill.feedback.log import Search
from retrieval_distill.formatting import counted

MIN_CLICKS = 10
"""Clicks on a rank and on the first one below which the probability of the rank is not measured."""


@dataclass(frozen=True)
class Propensities:
    """The probability that people look at a rank, relative to that of rank 1."""

    eta: float
    """Of the model 1 / rank^eta, for ranks that are not measured."""
    measured: Mapping[int, float] = field(default_factory=dict)
    """Rank -> probability."""

    def __call__(self, rank: int) -> float:
        """The probability at a rank, from 1."""
        return self.measured.get(rank, float(rank**-self.eta))


def swap_first(
    ranking: Sequence[str], *, depth: int = 10, share: float = 0.5, seed: int | np.random.Generator | None = None
) -> tuple[list[str], int | None]:
    """Let a random document of the first ``depth`` change places with the first one, in a share of the searches.

    Args:
        ranking: Document ids from the top.
        depth: Lowest rank that takes part.
        share: Share of the searches that are changed; the others are what they are compared with.
        seed: Random seed or generator; ``None``: another draw each time.

    Returns:
        The ranking as it is to be shown, and the rank that rank 1 changed places with (``None``: no change), for
        ``FeedbackLog.record_search(swapped=...)``.
    """
    rng, shown = np.random.default_rng(seed), list(ranking)
    depth = min(depth, len(shown))
    if depth < 2 or rng.random() >= share:
        return shown, None
    rank = int(rng.integers(2, depth + 1))
    shown[0], shown[rank - 1] = shown[rank - 1], shown[0]
    return shown, rank


def by_swaps(searches: Iterable[Search]) -> Propensities:
    """Measure propensities by searches in which rank 1 and rank k changed places at random.

    With and without the swap, the same two documents stand at both ranks, so clicks differ by how likely people look:
    p(k) / p(1) = (clicks at k, swapped + unswapped) / (clicks at 1, swapped + unswapped), all as rates. Measured values
    are then made to fall with the rank (isotonic regression, weighted by clicks), and lower ranks follow the model
    1 / rank^eta fitted to them.

    Raises:
        UserError: There are too few swapped or unswapped searches with clicks.
    """
    plain: list[Search] = []
    swapped: dict[int, list[Search]] = {}
    for search in searches:
        if search.offset == 0 and search.teams is None:
            (plain if search.swapped is None else swapped.setdefault(search.swapped, [])).append(search)
    ratios: dict[int, float] = {}
    weights: dict[int, float] = {}
    for rank, of_rank in sorted(swapped.items()):
        compared = [search for search in plain if len(search.shown) >= rank]
        at_rank, at_first = ([_clicks(group, at) for group in (of_rank, compared)] for at in (rank, 1))
        if compared and sum(at_rank) >= MIN_CLICKS and sum(at_first) >= MIN_CLICKS:
            sizes = np.array([len(of_rank), len(compared)])
            ratios[rank] = float((at_rank / sizes).sum() / (at_first / sizes).sum())
            weights[rank] = float(sum(at_rank))
    if not ratios:
        counts = {rank: len(of_rank) for rank, of_rank in sorted(swapped.items())}
        raise UserError(
            f"too few swapped searches to measure how likely people look at each rank: {counted(len(plain), 'search')} "
            f"without a swap, with one by rank: {counts or 'none'}; at least {MIN_CLICKS} clicks on both "
            "ranks are needed, or take the model 1 / rank^eta (swaps=false)"
        )
    ranks, observed, weight = (np.array(list(column)) for column in (ratios, ratios.values(), weights.values()))
    logs = np.log(ranks)
    eta = max(0.0, float(-(weight * logs * np.log(observed)).sum() / (weight * logs**2).sum()))
    falling = isotonic_regression(observed, weights=weight, increasing=False).x.clip(max=1.0)
    return Propensities(eta, {1: 1.0, **dict(zip(ranks.tolist(), falling.tolist(), strict=True))})


def _clicks(searches: Sequence[Search], rank: int) -> int:
    return sum(search.shown[rank - 1] in search.clicks for search in searches)
