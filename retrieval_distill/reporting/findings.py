"""What a report says of one run: every part as plain values, for the page and for its Markdown twin.

Knows what a run left and which comparisons matter; must not know HTML, Markdown or how a plot is drawn.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from retrieval_distill.formatting import interval, number, p_value, share, signed
from retrieval_distill.reporting import provenance, systems, teaching, wins
from retrieval_distill.reporting.letters import p_values
from retrieval_distill.reporting.plots.charts import Point
from retrieval_distill.reporting.provenance import Stage
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.reporting.systems import Row, model_bytes
from retrieval_distill.reporting.teaching import Curve, Histogram
from retrieval_distill.reporting.wins import Difference, Example

STUDENT, BASELINES = "student", ("start", "bm25")
"""The system that a run is about, and those it has to beat."""

CALLED = {"start": "the model it started from", "bm25": "BM25"}
"""Baselines in a sentence."""


@dataclass(frozen=True)
class Fact:
    """A number that stands out: what it is, the number, its doubt."""

    label: str
    value: str
    doubt: str


@dataclass(frozen=True, eq=False)
class Findings:
    """A run's report; parts that a run has not come to yet are empty."""

    title: str
    data_name: str
    queries: int
    headline: str
    measures: list[str]
    rows: list[Row]
    legend: str
    facts: list[Fact]
    encoding: list[list[str]]
    latency: list[Point]
    memory: list[Point]
    differences: list[Difference]
    examples: tuple[list[Example], list[Example]]
    gate: list[tuple[str, str]]
    verdict: str
    scores: Histogram | None
    curves: list[Curve]
    kept_step: int | None
    agreement: list[list[str]]
    fidelity: list[list[str]]
    worst: list[dict[str, Any]]
    stages: list[Stage]
    data: list[tuple[str, str]]
    environment: list[tuple[str, str]]
    recipe: str
    recipe_file: str
    command: str
    notes: list[str]


def collect(run: RunFolder) -> Findings:
    """Everything there is to say of a run, finished or not."""
    report = run.report
    compared, file = differences(run), f"{run.recipe['name']}.yaml"
    name = report["dataset"]["name"] if report else run.source
    return Findings(
        title=f"{run.recipe['name']} on {name}",
        data_name=name,
        queries=_queries(report),
        headline=_headline(run, compared),
        measures=systems.measures(report),
        rows=systems.rows(report),
        legend=systems.legend(report),
        facts=_facts(report, compared),
        encoding=systems.encoding(report),
        latency=latency(report),
        memory=memory(report),
        differences=compared,
        examples=_examples(run, compared),
        gate=teaching.gate_rows(run.gate),
        verdict=teaching.verdict(run.gate),
        scores=teaching.score_histogram(run),
        curves=teaching.curves(run.training_log, list(run.recipe["objectives"])),
        kept_step=next((row["step"] for row in run.training_log if row.get("kept")), None),
        agreement=teaching.agreement_rows(run),
        fidelity=teaching.fidelity_rows(report),
        worst=report.get("fidelity", {}).get("worst", []),
        stages=provenance.stage_costs(run),
        data=provenance.data_facts(run),
        environment=provenance.environment_facts(report),
        recipe=yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True),
        recipe_file=file,
        command=shlex.join(["retrieval-distill", "run", file, "--out", f"runs/{run.path.resolve().name}"]),
        notes=provenance.notes(run),
    )


def differences(run: RunFolder) -> list[Difference]:
    """The student against each baseline on the headline measure; none before a run is measured."""
    measure = next(iter(systems.measures(run.report)), "")
    paired = run.paired(measure)
    known = run.report.get("systems", {}).get(STUDENT, {}).get(measure)
    return [
        wins.difference(STUDENT, name, paired[STUDENT], paired[name], p_values(known)[name])
        for name in BASELINES
        if STUDENT in paired and name in paired
    ]


def latency(report: dict[str, Any]) -> list[Point]:
    """Every system's quality against its milliseconds for one query."""
    return _points(report, lambda system: system["latency_ms"]["p50"])


def memory(report: dict[str, Any]) -> list[Point]:
    """Every system's quality against the bytes of its model and index."""
    return _points(
        report, lambda system: system["index_bytes"] + (model_bytes(system) if "parameters" in system else 0)
    )


def _points(report: dict[str, Any], cost: Callable[[dict[str, Any]], float]) -> list[Point]:
    """The headline measure with its interval against a cost; ``None`` for the cost of a system that lacks it."""
    found = []
    for name, system in report.get("systems", {}).items():
        value = system[systems.measures(report)[0]]
        try:
            at: float | None = float(cost(system))
        except KeyError:
            at = None
        found.append(Point(name, at, value["mean"], value["low"], value["high"], name == STUDENT))
    return found


def _queries(report: dict[str, Any]) -> int:
    """Test queries that were measured; 0 before."""
    return report["dataset"]["queries"][report["recipe"]["dataset"]["test"]] if report else 0


def _headline(run: RunFolder, compared: list[Difference]) -> str:
    if run.unmeasured:
        return f"The student is finished. {run.unmeasured}"
    if not run.report:
        step = f"; training has reached step {run.training_log[-1]['step']}" if run.training_log else ""
        return f"This run is not finished: still to come are {', '.join(run.missing) or 'its measures'}{step}."
    report, measure = run.report, systems.measures(run.report)[0]
    value = report["systems"][STUDENT][measure]
    gain = "; ".join(
        f"{signed(found.mean)} ({signed(found.low)} to {signed(found.high)}) against {CALLED[found.theirs]}, "
        f"{p_value(found.p)}"
        for found in compared[:1]
    )
    return (
        f"On {_queries(report):,} test queries of {report['dataset']['name']} the student reaches {measure} "
        f"{number(value['mean'])} ({share(0.95)} interval {interval(value['low'], value['high'])})"
        + (f": {gain}" if gain else "")
        + (f"; it keeps {_retention(report)} of its teacher's." if report["distillation"]["retention"] else ".")
    )


def _retention(report: dict[str, Any]) -> str:
    """The share of the teacher's quality that the student has, with its interval where it was measured."""
    found = report.get("fidelity", {}).get("retention")
    doubt = f" ({share(found['low'])} to {share(found['high'])})" if found else ""
    return share(report["distillation"]["retention"]) + doubt


def _facts(report: dict[str, Any], compared: list[Difference]) -> list[Fact]:
    if not report:
        return []
    measure, student, kept = systems.measures(report)[0], report["systems"][STUDENT], report["distillation"]
    own = student[measure]
    doubt = f"{share(0.95)}: {interval(own['low'], own['high'])}"
    facts = [Fact(f"{measure} of the student", number(own["mean"]), doubt)]
    for found in compared:
        doubt = f"{signed(found.low)} to {signed(found.high)}, {p_value(found.p)}"
        facts.append(Fact(f"against {CALLED[found.theirs]}", signed(found.mean), doubt))
    if kept["retention"]:
        value, _, doubt = _retention(report).partition(" (")
        gain = "" if kept["gain_kept"] is None else f"{share(kept['gain_kept'])} of its gain over the start"
        facts.append(Fact(f"of its teacher's {measure}", value, "; ".join(filter(None, [doubt.rstrip(")"), gain]))))
    if "latency_ms" in student:
        milliseconds = student["latency_ms"]
        doubt = f"median; 95th percentile {number(milliseconds['p95'], 1)} ms"
        facts.append(Fact("for one query", f"{number(milliseconds['p50'], 1)} ms", doubt))
    return facts


def _examples(run: RunFolder, compared: list[Difference]) -> tuple[list[Example], list[Example]]:
    if not compared or run.dataset is None or not run.runs:
        return [], []
    qrels = run.dataset.qrels(run.report["recipe"]["dataset"]["test"])
    paired = run.paired(systems.measures(run.report)[0])
    return wins.examples(compared[0], paired, run.runs, run.dataset, qrels)
