"""Finds texts similar to earlier ones. Knows sets of word shingles; must not know ids or judgements.

MinHash signatures and a locality-sensitive index (rensa) propose candidates, and the exact Jaccard similarity decides:
all matches are near, but a pair at the very threshold may be missed. Sources: Broder, "On the Resemblance
and Containment of Documents", 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable

from rensa import RMinHash, RMinHashLSH

from retrieval_distill.data.prepare.words import jaccard

PERMUTATIONS = 128

SEED = 7

FOUND = 0.99
"""Probability with which a pair at the threshold becomes a candidate, at least; higher above the threshold."""


class NearIndex:
    """An index of numbered sets.

    Args:
        threshold: Jaccard similarity above which two sets are near.
        stored: Returns the set with a number, so that the index need not store it.
    """

    def __init__(self, threshold: float, stored: Callable[[int], frozenset[str]]) -> None:
        self.threshold, self._stored = threshold, stored
        self._index = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))

    def find(self, found: frozenset[str]) -> int | None:
        """The smallest number whose set is near this one; ``None``: there is none."""
        candidates = sorted(self._index.query(self._signed(found)))
        return next((key for key in candidates if jaccard(found, self._stored(key)) >= self.threshold), None)

    def add(self, number: int, added: frozenset[str]) -> None:
        """Add a set with its number."""
        self._index.insert(number, self._signed(added))

    def _signed(self, of: frozenset[str]) -> RMinHash:
        signature = RMinHash(PERMUTATIONS, SEED)
        signature.update(sorted(of))
        return signature


def bands(threshold: float) -> int:
    """The smallest number of bands that finds a pair at the threshold with probability ``FOUND``.

    A pair of similarity s agrees in all rows of one of b bands with probability 1 - (1 - s^(128/b))^b.
    """
    for count in (1, 2, 4, 8, 16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // count)) ** count >= FOUND:
            return count
    return PERMUTATIONS
