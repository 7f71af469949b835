"""How likely people look at each rank, measured by random swaps, is how likely simulated people do."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.feedback.log import Search
from retrieval_distill.feedback.propensities import Propensities, by_swaps, swap_first


def searches(count: int, eta: float, share: float = 0.5, seed: int = 0, depth: int = 10) -> list[Search]:
    """A search for each of many queries, whose better documents mostly stand higher."""
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        chances = np.sort(rng.random(depth))[::-1] * 0.9
        ranking = [f"{doc}" for doc in range(depth)]
        shown, swapped = swap_first(ranking, share=share, seed=rng)
        looked = np.arange(1, depth + 1) ** -eta
        clicks = {doc for rank, doc in enumerate(shown) if rng.random() < looked[rank] * chances[int(doc)]}
        found.append(Search(f"{number}", "", f"query {number}", "s", tuple(shown), swapped=swapped, clicks=clicks))
    return found


@pytest.mark.parametrize("eta", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_swaps_recover_the_bias_whatever_their_share(eta, share):
    """A better document stands higher, so that clicks by rank alone would be far off."""
    logged = searches(30_000, eta, share)
    found = by_swaps(logged)
    assert found.eta == pytest.approx(eta, rel=0.12)
    measured = {rank: found(rank) for rank in range(2, 6)}
    assert measured == pytest.approx({rank: rank**-eta for rank in measured}, rel=0.3)
    plain = [search for search in logged if search.swapped is None]
    naive = sum(s.shown[4] in s.clicks for s in plain) / sum(s.shown[0] in s.clicks for s in plain)
    assert abs(naive - 5**-eta) > abs(found(5) - 5**-eta)


def test_probabilities_fall_from_1_and_go_on_below_what_was_measured():
    found = by_swaps(searches(3000, 1.0))
    values = [found(rank) for rank in range(1, 11)]
    assert values[0] == 1.0 and values == sorted(values, reverse=True)
    assert found(50) == pytest.approx(50**-found.eta)
    assert Propensities(0.0)(7) == 1.0 and Propensities(2.0)(3) == pytest.approx(1 / 9)


def test_too_few_swaps_are_refused_with_their_numbers():
    with pytest.raises(UserError, match=r"40 searches without a swap, with one by rank: none"):
        by_swaps(searches(40, 1.0, share=0.0))
    with pytest.raises(UserError, match="0 searches without a swap"):
        by_swaps(searches(400, 1.0, share=1.0))


def test_a_swap_exchanges_two_documents():
    rng, swapped = np.random.default_rng(0), Counter()
    for _ in range(1000):
        shown, rank = swap_first("abcdef", depth=4, seed=rng)
        expected = list("abcdef")
        if rank:
            expected[0], expected[rank - 1] = expected[rank - 1], expected[0]
        assert shown == expected
        swapped[rank] += 1
    assert set(swapped) == {None, 2, 3, 4} and 420 < swapped[None] < 580
    assert swap_first(["a"], share=1.0) == (["a"], None) and swap_first([], share=1.0) == ([], None)
