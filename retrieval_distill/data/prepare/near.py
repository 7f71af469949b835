"""Texts that nearly equal one that was there before. Knows sets of word runs; must not know ids or judgements.

MinHash signatures and a locality-sensitive index (rensa) put forward candidates, and the true Jaccard similarity
decides: what is found is near, though a pair at the very threshold may be missed. Sources: Broder, "On the Resemblance
and Containment of Documents", 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3.
"""

from __future__ import annotations

from collections.abc import Callable

from rensa import RMinHash, RMinHashLSH

from retrieval_distill.data.prepare.words import jaccard

PERMUTATIONS = 128

SEED = 7

FOUND = 0.99
"""Least probability with which a pair at the threshold becomes a candidate; surer for every pair above it."""


class NearIndex:
    """Sets under numbers, added one by one.

    Args:
        threshold: Jaccard similarity from which two sets are near.
        stored: Gives back the set that was added under a number, so that the index need not hold it.
    """

    def __init__(self, threshold: float, stored: Callable[[int], frozenset[str]]) -> None:
        self.threshold, self._stored = threshold, stored
        self._index = RMinHashLSH(threshold, PERMUTATIONS, bands(threshold))

    def find(self, found: frozenset[str]) -> int | None:
        """The smallest number whose set is near this one."""
        candidates = sorted(self._index.query(self._signed(found)))
        return next((key for key in candidates if jaccard(found, self._stored(key)) >= self.threshold), None)

    def add(self, number: int, added: frozenset[str]) -> None:
        """Add a set under its number."""
        self._index.insert(number, self._signed(added))

    def _signed(self, of: frozenset[str]) -> RMinHash:
        signature = RMinHash(PERMUTATIONS, SEED)
        signature.update(sorted(of))
        return signature


def bands(threshold: float) -> int:
    """The fewest bands of the index in which a pair at the threshold is found with probability ``FOUND``.

    A pair of similarity s agrees in all rows of one of b bands with probability 1 - (1 - s^(128/b))^b.
    """
    for count in (1, 2, 4, 8, 16, 32, 64):
        if 1 - (1 - threshold ** (PERMUTATIONS // count)) ** count >= FOUND:
            return count
    return PERMUTATIONS
