"""How a run's numbers came to be: its data, the teacher's gate and scores, the training, the costs, the machine.

Knows what a run left; must not know comparisons of systems, HTML or Markdown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.reporting.text import number, p_value, short, signed

RATE = "_per_second"
"""Ending of a rate in a stage's costs."""

BINS = 30
"""Bins of the teacher's scores."""


@dataclass(frozen=True)
class Stage:
    """What a stage cost; ``rate`` such as ``"113 documents/s"``, empty where it counts no units."""

    name: str
    seconds: float
    peak_memory_bytes: int
    rate: str


@dataclass(frozen=True, eq=False)
class Histogram:
    """Teacher scores of training candidates: bin ``edges`` [bins + 1], counts [bins] of either kind."""

    edges: np.ndarray
    counts: dict[str, np.ndarray]


def curves(log: list[dict[str, float]], objectives: list[str]) -> dict[str, list[tuple[float, float]]]:
    """Quantity -> (step, value) of every window that logged it: the loss and its parts first, then the rest as logged.

    What was logged only once makes no curve.
    """
    logged = dict.fromkeys(key for row in log for key in row)
    first = [
        key for key in ("loss", *objectives, "learning_rate", "tokens_per_second", "padding_share") if key in logged
    ]
    ordered = dict.fromkeys([*first, *logged])
    found = {key: [(row["step"], row[key]) for row in log if key in row] for key in ordered}
    return {key: values for key, values in found.items() if key not in ("step", "epoch") and len(values) > 1}


def gate_rows(verdict: dict[str, Any] | None) -> list[tuple[str, str]]:
    """A row per baseline: what the teacher did to its order on the dev queries."""
    if verdict is None:
        return []
    if verdict["better"] is None:
        said = (
            "best document kept for {same_first:.0%} of the queries, rank correlation {spearman:.2f} (nothing judged)"
        )
        return [(name, said.format(**found)) for name, found in verdict["against"].items()]
    return [
        (
            name,
            f"{verdict['measure']} {number(found['baseline'])} becomes {number(found['teacher'])} on "
            f"{verdict['queries']:,} dev queries: {signed(found['difference'])} "
            f"({signed(found['low'])} to {signed(found['high'])}), {p_value(found['p'])}",
        )
        for name, found in verdict["against"].items()
    ]


def score_histogram(run: RunFolder) -> Histogram | None:
    """How the teacher scores relevant documents and how the other candidates; ``None`` before it has."""
    if run.scores is None or run.dataset is None:
        return None
    qrels, frame = run.dataset.split(run.recipe["dataset"]["train"]), run.scores.frame
    relevant = np.array([qrels.get(query, {}).get(doc, 0) > 0 for query, doc in run.scores.pairs])
    scores = frame["score"].to_numpy()
    edges = np.histogram_bin_edges(scores, BINS)
    kinds = {"relevant": scores[relevant], "other candidates": scores[~relevant]}
    return Histogram(edges, {kind: np.histogram(values, edges)[0] for kind, values in kinds.items()})


def stage_costs(run: RunFolder) -> list[Stage]:
    """Each finished stage's costs, in the order of the run."""
    found = []
    for name, costs in run.stages.items():
        rates = [f"{short(costs[key])} {key.removesuffix(RATE)}/s" for key in costs if key.endswith(RATE)]
        found.append(Stage(name, costs["seconds"], costs["peak_memory_bytes"], ", ".join(rates)))
    return found


def data_facts(run: RunFolder) -> list[tuple[str, str]]:
    """What was learnt from what: models, data, counts."""
    recipe = run.recipe
    teachers = [member["model"] for member in recipe["teacher"]["ensemble"] or [recipe["teacher"]]]
    found = [
        ("teacher", " + ".join(teachers)),
        ("student starts from", recipe["student"]["model"]),
        ("source", recipe["dataset"]["source"]),
    ]
    if run.report:
        dataset = run.report["dataset"]
        found.append(("passages", f"{dataset['docs']:,}"))
        found += [(f"{split} queries", f"{count:,}") for split, count in dataset["queries"].items()]
    for stage, count, label in (
        ("retrieve", "queries", "training queries mined"),
        ("score", "pairs", "pairs scored by the teacher"),
        ("distill", "groups", "training queries with a relevant and another candidate"),
        ("distill", "steps", "optimiser steps"),
    ):
        if stage in run.stages:
            found.append((label, f"{run.stages[stage]['counts'][count]:,}"))
    return found


def environment_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    """The machine and the versions that the numbers hold for."""
    environment = dict(report.get("environment", {}))
    versions = environment.pop("versions", {})
    plain = {name.replace("_", " "): value for name, value in environment.items() if value is not None}
    return [(name, str(value)) for name, value in {**plain, **versions}.items()]


def notes(run: RunFolder) -> list[str]:
    """What a reader has to know before the numbers."""
    if run.stages and run.dataset is None:
        source = run.recipe["dataset"]["source"]
        return [f"The data set {source} is no longer there: what needs its texts or judgements is left out."]
    return []
