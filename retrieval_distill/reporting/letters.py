"""Letters for significant wins: every system has one, and a value carries those of the systems it beats.

Knows measured systems; must not know how they were measured or where the letters are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import ascii_letters

from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.significance import ALPHA

FIXED = {"bm25": "b", "start": "s", "hybrid-start": "S", "student": "d", "hybrid-student": "D", "teacher": "t"}
"""Letters that a run's own systems have in every report; a capital is the same fused with BM25."""

UNCORRECTED = "p < 0.05, paired randomisation test"

TEST = f"{UNCORRECTED}, Holm-corrected per measure"

CORRECTED = (
    "Intervals of differences and p are corrected together for all comparisons (paired randomisation test, Holm)."
)
"""Of :func:`retrieval_distill.evaluation.compare.summarise`."""


def marks(systems: Iterable[str]) -> dict[str, str]:
    """A letter for each system: the fixed ones, and the alphabet's others in order; beyond it, numbers."""
    names = list(systems)
    free = [letter for letter in ascii_letters if letter not in FIXED.values()]
    others = iter([*free, *(str(number) for number in range(len(names)))])
    return {name: FIXED.get(name) or next(others) for name in names}


def beaten(name: str, values: Mapping[str, Measured]) -> list[str]:
    """The systems whose mean is lower, significantly so.

    Args:
        name: A system.
        values: One measure of every system.
    """
    own = values[name]
    return [other for other in values if own.p.get(other, 1.0) < ALPHA and own.mean > values[other].mean]
