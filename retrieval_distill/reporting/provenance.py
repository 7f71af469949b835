"""What a run's numbers rest on: its data, the costs of its stages, the machine.

Knows what a run left; must not know comparisons of systems, HTML or Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.formatting import interval, number, share, short
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.run_folder import RunFolder


@dataclass(frozen=True)
class Stage:
    """What a stage cost; ``rate`` such as ``"113 documents/s"``, empty where it counts no units.

    A rate of a stage that was kept was measured then, under whatever load there was, and says so.
    """

    name: str
    seconds: float
    peak_memory_bytes: int
    rate: str


def stage_costs(run: RunFolder) -> list[Stage]:
    """Each finished stage's costs, in the order of the run."""
    found = []
    for name, costs in run.stages.items():
        when = " (in an earlier run)" if costs.skipped else ""
        rates = [f"{short(rate)} {unit}/s{when}" for unit, rate in costs.rates.items()]
        found.append(Stage(name, costs.seconds, costs.peak_memory_bytes, ", ".join(rates)))
    return found


def data_facts(run: RunFolder) -> list[tuple[str, str]]:
    """What was learnt from what: models, data, counts."""
    recipe = run.recipe
    teachers = [member["model"] for member in recipe["teacher"]["ensemble"] or [recipe["teacher"]]]
    found = [
        ("teacher", " + ".join(teachers)),
        ("student starts from", recipe["student"]["model"]),
        ("source", run.source),
    ]
    if run.report:
        dataset = run.report.dataset
        found.append(("passages", f"{dataset.docs:,}"))
        found += [(f"{split} queries", f"{count:,}") for split, count in dataset.queries.items()]
    for stage, count, label in (
        ("generate", "queries", "queries generated"),
        ("feedback", "queries", "queries from feedback"),
        ("retrieve", "queries", "training queries mined"),
        ("score", "pairs", "pairs scored by the teacher"),
        ("distill", "groups", "training queries with a relevant and another candidate"),
        ("distill", "steps", "optimiser steps"),
    ):
        if stage in run.stages:
            found.append((label, f"{run.stages[stage].counts[count]:,}"))
    return found + _cut(run)


def _cut(run: RunFolder) -> list[tuple[str, str]]:
    """Texts that are longer than the student takes."""
    learnt = run.counts("distill").get("truncated", {})
    embedded = run.counts("embed-student").get("truncated")
    known = {"passages": embedded, "training passages": learnt.get("document"), "training queries": learnt.get("query")}
    return [
        (f"{name} longer than {cut['max_length']} tokens, which are cut", share(cut["share"]))
        for name, cut in known.items()
        if cut and cut["max_length"] is not None
    ]


def environment_facts(report: RunReport | None) -> list[tuple[str, str]]:
    """The machine and the versions that the numbers hold for."""
    environment = dict(report.environment) if report else {}
    versions = environment.pop("versions", {})
    plain = {name.replace("_", " "): value for name, value in environment.items() if value is not None}
    shown = {name: ", ".join(value) if isinstance(value, list) else str(value) for name, value in plain.items()}
    return [*shown.items(), *versions.items()]


def notes(run: RunFolder) -> list[str]:
    """What a reader has to know before the numbers."""
    if run.stages and run.dataset is None:
        return [f"The data set {run.source} is no longer there: what needs its texts or judgements is left out."]
    return [by_dataset(name, systems) for name, systems in run.report.datasets.items()] if run.report else []


def by_dataset(name: str, systems: Mapping[str, Mapping[str, Measured]]) -> str:
    """One of several datasets in a sentence: every system's mean of the headline measure, with its 95 % interval."""
    measure = next(iter(next(iter(systems.values()))))
    means = (
        f"{system} {number(found[measure].mean)} ({interval(*found[measure].interval)})"
        for system, found in systems.items()
    )
    return f"{name}: {measure} of {', '.join(means)}."
