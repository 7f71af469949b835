"""Several systems over the same queries: means, intervals and paired tests.

Knows Runs and judgements; must not know models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import mean_with_interval, paired_p
from retrieval_distill.retrieval.run import Run


def per_query(systems: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> pd.DataFrame:
    """Long table of values: columns ``system``, ``query_id`` and one per measure."""
    frames = [evaluate(run, qrels, measures).reset_index().assign(system=name) for name, run in systems.items()]
    return pd.concat(frames, ignore_index=True)


def compare(systems: Mapping[str, Run], qrels: Qrels, measures: Sequence[str]) -> dict[str, dict[str, Any]]:
    """System -> measure -> ``{"mean", "low", "high", "p_vs": {other system: p}}``.

    Intervals are 95 % bootstrap intervals over queries; p-values are two-sided paired randomisation tests over all
    judged queries, not corrected for their number.
    """
    values = per_query(systems, qrels, measures)
    table: dict[str, dict[str, Any]] = {name: {} for name in systems}
    for measure in measures:
        by_system = {name: values.loc[values["system"] == name, measure].to_numpy() for name in systems}
        for name, own in by_system.items():
            interval = mean_with_interval(own)
            p_vs = {other: paired_p(own, theirs) for other, theirs in by_system.items() if other != name}
            table[name][measure] = {"mean": interval.mean, "low": interval.low, "high": interval.high, "p_vs": p_vs}
    return table
