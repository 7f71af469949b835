"""The systems of a run by name, and the best untrained one, which a student has to beat.

Knows measured systems by name; must not know how they were built or how they are displayed.
"""

from __future__ import annotations

from collections.abc import Mapping

from retrieval_distill.evaluation.compare import Measured

SYSTEMS = ("bm25", "start", "hybrid-start", "student", "hybrid-student", "teacher")
"""Systems that every run measures; baselines follow under their own names."""

HYBRIDS = {"hybrid-start": "start", "hybrid-student": "student"}
"""BM25 fused with a bi-encoder: the fusion's name -> the bi-encoder's."""

TRAINED = ("student", "hybrid-student")
"""Systems that need training."""

RERANKED = "rerank-"
"""Begins the names of rerankers other than the teacher; as that, each is a target, not a rival."""

TEACHER = "teacher"
"""Needs no training either, but reads every document again for every query: the target, not a rival."""


def best_untrained(values: Mapping[str, Measured]) -> str:
    """The best untrained system, by one measure of every system."""
    rivals = [name for name in values if name not in (*TRAINED, TEACHER) and not name.startswith(RERANKED)]
    return max(rivals, key=lambda name: values[name].mean)
