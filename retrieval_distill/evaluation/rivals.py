"""What a student has to beat: the best that one could have had without training, by its name and with its doubt.

Knows measured systems by name; must not know how they were made or how they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SYSTEMS = ("bm25", "start", "hybrid-start", "student", "hybrid-student", "teacher")
"""What every run measures; baselines follow under their own names."""

HYBRIDS = {"hybrid-start": "start", "hybrid-student": "student"}
"""BM25 fused with a bi-encoder: the fusion's name -> the bi-encoder's."""

TRAINED = ("student", "hybrid-student")
"""What a run has trained; all others could be had without it."""

TEACHER = "teacher"
"""It needs no training either, but it reads every document again for every query: the aim, and no rival."""

Systems = Mapping[str, Mapping[str, Any]]
"""As :func:`retrieval_distill.evaluation.compare.summarise` gives them, each with ``trained``."""


def best_untrained(systems: Systems, measure: str) -> dict[str, Any]:
    """The best rival of a student, and what the student has on it.

    Returns:
        ``system``; its mean under the measure's name; ``student_minus``, the student's mean less its own, with ``low``
        and ``high`` of the corrected 95 % interval and the corrected ``p``.
    """
    rivals = [name for name, system in systems.items() if not system["trained"] and name != TEACHER]
    best = max(rivals, key=lambda name: systems[name][measure]["mean"])
    return {
        "system": best,
        measure: systems[best][measure]["mean"],
        **difference(systems, "student", best, measure, "student_minus"),
    }


def difference(systems: Systems, ours: str, theirs: str, measure: str, named: str = "mean") -> dict[str, float]:
    """What one system has on another: the mean under ``named``, ``low``, ``high`` and ``p``, all corrected alike."""
    own = systems[ours][measure]
    won = own["difference_vs"][theirs]
    return {named: won["mean"], "low": won["low"], "high": won["high"], "p": own["p_holm_vs"][theirs]}
