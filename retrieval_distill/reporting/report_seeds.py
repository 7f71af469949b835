"""The part of ``report.json`` on further seeds: how far the students of several trainings lie apart.

Knows the shape of these results; must not know how they were measured or how they are shown.
"""

from __future__ import annotations

from retrieval_distill.runtime.documents import Part


class OverSeeds(Part):
    """One measure of a system, once for each student."""

    mean: float
    """Over seeds and queries."""
    low: float
    high: float
    """The 95 % interval over seeds and queries is from ``low`` to ``high``."""
    standard_deviation: float
    """Of the seeds' means."""
    means: list[float]
    """The mean of each seed."""


class SeedDifference(Part):
    """What the mean over the seeds has on a system that needs no training, query by query."""

    mean: float
    low: float
    high: float
    """The ends of its corrected 95 % interval over queries."""
    p: float
    """Corrected for all comparisons of several seeds."""


class SeveralSeeds(Part):
    """Students that learnt from the same lists in trainings of different seeds, over the same test queries."""

    seeds: list[int]
    """The first is the recipe's: its student is the one that everything else in the report is about."""
    queries: int
    systems: dict[str, dict[str, OverSeeds]]
    """``student`` and ``hybrid-student``: measure -> what was reached."""
    against: dict[str, dict[str, SeedDifference]]
    """The same systems in the headline measure, against the best untrained system and ``hybrid-start``, by their
    names."""
