"""The systems of a run by name, and the best untrained one, which a student has to beat.

Knows measured systems by name; must not know how they were built or how they are displayed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SYSTEMS = ("bm25", "start", "hybrid-start", "student", "hybrid-student", "teacher")
"""Systems that every run measures; baselines follow under their own names."""

HYBRIDS = {"hybrid-start": "start", "hybrid-student": "student"}
"""BM25 fused with a bi-encoder: the fusion's name -> the bi-encoder's."""

TRAINED = ("student", "hybrid-student")
"""Systems that need training."""

TEACHER = "teacher"
"""Needs no training either, but reads every document again for every query: the target, not a rival."""

Systems = Mapping[str, Mapping[str, Any]]
"""The result of :func:`retrieval_distill.evaluation.compare.summarise`, with ``trained`` for each system."""


def best_untrained(systems: Systems, measure: str) -> dict[str, Any]:
    """The best untrained system, and the student's difference from it.

    Returns:
        ``system``; its mean under the measure's name; ``student_minus``, the student's mean minus its mean, with
        ``low`` and ``high`` of the corrected 95 % interval and the corrected ``p``.
    """
    rivals = [name for name, system in systems.items() if not system["trained"] and name != TEACHER]
    best = max(rivals, key=lambda name: systems[name][measure]["mean"])
    return {
        "system": best,
        measure: systems[best][measure]["mean"],
        **difference(systems, "student", best, measure, "student_minus"),
    }


def difference(systems: Systems, ours: str, theirs: str, measure: str, named: str = "mean") -> dict[str, float]:
    """The difference of two systems: the mean under ``named``, with corrected ``low``, ``high`` and ``p``."""
    own = systems[ours][measure]
    won = own["difference_vs"][theirs]
    return {named: won["mean"], "low": won["low"], "high": won["high"], "p": own["p_holm_vs"][theirs]}
