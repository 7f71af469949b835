"""Compares systems over the same queries: means, intervals, paired tests and the detectable difference.

Knows Runs and judgements; must not know models.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.checks import check_run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import (
    differences_with_intervals,
    holm,
    mean_with_interval,
    minimum_detectable_difference,
    paired_p,
)


def per_query(
    systems: Mapping[str, Run], qrels: Qrels, measures: Sequence[str], documents: Container[str] | None = None
) -> pd.DataFrame:
    """Long table of values: columns ``system``, ``query_id`` and one per measure; queries in the judgements' order.

    Args:
        systems: Runs by name.
        qrels: Judgements.
        measures: Measures, named as in ir_measures.
        documents: The corpus's ids, to warn about others; ``None``: any document may appear.

    Raises:
        UserError: As :func:`retrieval_distill.evaluation.checks.check_run` and ``measures.evaluate``.
    """
    frames = []
    for name, run in systems.items():
        check_run(name, run, qrels, documents)
        values = evaluate(run, qrels, measures).reset_index()
        values.insert(0, "system", name)
        frames.append(values)
    return pd.concat(frames, ignore_index=True)


def compare(systems: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> dict[str, dict[str, Any]]:
    """:func:`summarise` of :func:`per_query`."""
    return summarise(per_query(systems, qrels, measures))


def summarise(values: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """System -> measure -> its mean and the comparisons with every other system, by that system's name.

    Each has ``mean``, ``low`` and ``high``, the uncorrected 95 % bootstrap interval over queries. ``p_vs`` holds
    two-sided p-values of paired randomisation tests over all judged queries, ``p_holm_vs`` the same corrected (Holm)
    for the number of comparisons between systems in the same measure, and ``difference_vs`` the difference from the
    other system: ``mean``, ``low`` and ``high``, likewise corrected (``significance.differences_with_intervals``).

    Args:
        values: The result of :func:`per_query`.
    """
    names = list(values["system"].unique())
    table: dict[str, dict[str, Any]] = {name: {} for name in names}
    for measure, by_system in _by_measure(values).items():
        pairs = list(combinations(names, 2))
        p = {frozenset((a, b)): paired_p(by_system[a], by_system[b]) for a, b in pairs}
        corrected = holm(p)
        won = differences_with_intervals({frozenset((a, b)): by_system[a] - by_system[b] for a, b in pairs}, p)
        won_by = {(a, b): won[frozenset((a, b))] for a, b in pairs}
        won_by |= {(b, a): -difference for (a, b), difference in won_by.items()}
        for name in names:
            others = [other for other in names if other != name]
            table[name][measure] = {
                **asdict(mean_with_interval(by_system[name])),
                "p_vs": {other: p[frozenset((name, other))] for other in others},
                "p_holm_vs": {other: corrected[frozenset((name, other))] for other in others},
                "difference_vs": {other: asdict(won_by[name, other]) for other in others},
            }
    return table


def minimum_detectable(values: pd.DataFrame) -> dict[str, float | None]:
    """Measure -> the difference detectable with 80 % power for any two of the systems.

    The largest :func:`significance.minimum_detectable_difference` over the pairs of systems; ``None`` for a single
    system or a single query.
    """
    largest = {
        measure: max(
            (minimum_detectable_difference(a - b) for a, b in combinations(by_system.values(), 2)), default=None
        )
        for measure, by_system in _by_measure(values).items()
    }
    return {measure: value if value is not None and np.isfinite(value) else None for measure, value in largest.items()}


def _by_measure(values: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """Measure -> system -> values by query, in the same order for every system."""
    measures = [column for column in values.columns if column not in ("system", "query_id")]
    systems = dict(list(values.groupby("system", sort=False)))
    return {measure: {name: rows[measure].to_numpy() for name, rows in systems.items()} for measure in measures}
