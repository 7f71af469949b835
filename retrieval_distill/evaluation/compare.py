"""Compares systems over the same queries: means, intervals, paired tests and the detectable difference.

Knows Runs and judgements; must not know models.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations

import numpy as np
import pandas as pd

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.checks import check_run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import (
    Mean,
    differences_with_intervals,
    holm,
    mean_with_interval,
    minimum_detectable_difference,
    paired_p,
)


@dataclass(frozen=True)
class Measured(Mean):
    """A system's mean of one measure over the queries, and how it compares with that of every other system.

    Args:
        mean: The mean.
        low: Lower end of its 95 % bootstrap interval over queries, which is not corrected.
        high: Upper end of it.
        p_vs: By other system, the two-sided p-value of the paired randomisation test over all judged queries.
        p_holm_vs: The same, corrected for the number of comparisons between systems in the same measure (Holm).
        difference_vs: What is won against the other, with an interval that is corrected alike (see
            ``significance.differences_with_intervals``).
    """

    p_vs: dict[str, float] = field(default_factory=dict)
    p_holm_vs: dict[str, float] = field(default_factory=dict)
    difference_vs: dict[str, Mean] = field(default_factory=dict)

    @property
    def p(self) -> dict[str, float]:
        """The p-value against each other system: corrected, but for reports that are older than the correction."""
        return self.p_holm_vs or self.p_vs

    def __float__(self) -> float:
        return self.mean

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f}-{self.high:.3f})"


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


def compare(systems: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> dict[str, dict[str, Measured]]:
    """:func:`summarise` of :func:`per_query`."""
    return summarise(per_query(systems, qrels, measures))


def summarise(values: pd.DataFrame) -> dict[str, dict[str, Measured]]:
    """System -> measure -> its mean and the comparisons with every other system, by that system's name.

    Args:
        values: The result of :func:`per_query`.
    """
    names = list(values["system"].unique())
    table: dict[str, dict[str, Measured]] = {name: {} for name in names}
    for measure, by_system in _by_measure(values).items():
        pairs = list(combinations(names, 2))
        p = {frozenset((a, b)): paired_p(by_system[a], by_system[b]) for a, b in pairs}
        corrected = holm(p)
        won = differences_with_intervals({frozenset((a, b)): by_system[a] - by_system[b] for a, b in pairs}, p)
        won_by = {(a, b): won[frozenset((a, b))] for a, b in pairs}
        won_by |= {(b, a): -difference for (a, b), difference in won_by.items()}
        for name in names:
            others = [other for other in names if other != name]
            table[name][measure] = Measured(
                **asdict(mean_with_interval(by_system[name])),
                p_vs={other: p[frozenset((name, other))] for other in others},
                p_holm_vs={other: corrected[frozenset((name, other))] for other in others},
                difference_vs={other: won_by[name, other] for other in others},
            )
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
