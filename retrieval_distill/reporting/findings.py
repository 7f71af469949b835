"""What a report says of one run: every part as plain values, for the page and for its Markdown twin.

Knows what a run left and which comparisons matter; must not know HTML, Markdown or how a plot is drawn.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass

import yaml

from retrieval_distill.evaluation import self_hits
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.rivals import TRAINED
from retrieval_distill.formatting import interval, number, p_value, share, signed
from retrieval_distill.reporting import other_splits, provenance, seeds, systems, teaching, verdict, wins
from retrieval_distill.reporting.other_splits import OtherSplit
from retrieval_distill.reporting.plots.charts import Point
from retrieval_distill.reporting.provenance import Stage
from retrieval_distill.reporting.rankings import SideBySide
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.report_systems import System
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.reporting.systems import Row, model_bytes
from retrieval_distill.reporting.teaching import Curve, Histogram
from retrieval_distill.reporting.wins import Difference, Example

STUDENT = "student"
"""The system that a run is about."""


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
    is_under_way: bool
    headline: str
    use: str
    ways_out: list[str]
    measures: list[str]
    rows: list[Row]
    legend: str
    comparisons: int
    doubts: list[str]
    seeds: list[list[str]]
    fusion: list[list[str]]
    other_splits: list[OtherSplit]
    timing: str
    facts: list[Fact]
    encoding: list[list[str]]
    latency: list[Point]
    memory: list[Point]
    differences: list[Difference]
    examples: tuple[list[Example], list[Example]]
    gate: list[tuple[str, str]]
    verdict: str
    reconciled: str
    scores: Histogram | None
    curves: list[Curve]
    kept_step: float | None
    agreement: list[list[str]]
    fidelity: list[list[str]]
    worst: list[SideBySide]
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
    fidelity = report.fidelity if report else None
    compared, file = differences(run), f"{run.recipe['name']}.yaml"
    against = next(iter(compared), None) or (report.distillation.best_untrained if report else None)
    name = report.dataset.name if report else run.source
    return Findings(
        title=f"{run.recipe['name']} on {name}",
        data_name=name,
        queries=verdict.queries_measured(report) if report else 0,
        is_under_way=not report and not run.unmeasured,
        headline=_headline(run, against),
        use=verdict.use(report) if report else "",
        ways_out=verdict.ways_out(report, against) if report else [],
        measures=report.measures if report else [],
        rows=systems.rows(report),
        legend=systems.legend(report) if report else "",
        comparisons=verdict.comparisons(report) if report else 0,
        doubts=verdict.doubts(report) if report else [],
        seeds=seeds.table(report.seeds) if report else [],
        fusion=systems.fusion(report) if report else [],
        other_splits=other_splits.collect(report) if report else [],
        timing=systems.timing(report) if report else "",
        facts=_facts(report, compared) if report else [],
        encoding=systems.encoding(report) if report else [],
        latency=latency(report) if report else [],
        memory=memory(report) if report else [],
        differences=compared,
        examples=_examples(run, compared),
        gate=teaching.gate_rows(run.gate),
        verdict=teaching.verdict(run.gate),
        reconciled=verdict.reconciled(report, run.gate),
        scores=teaching.score_histogram(run),
        curves=teaching.curves(run.training_log, list(run.recipe["objectives"])),
        kept_step=next((row["step"] for row in run.training_log if row.get("kept")), None),
        agreement=teaching.agreement_rows(run),
        fidelity=teaching.fidelity_rows(fidelity),
        worst=fidelity.worst if fidelity else [],
        stages=provenance.stage_costs(run),
        data=provenance.data_facts(run),
        environment=provenance.environment_facts(report),
        recipe=yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True),
        recipe_file=file,
        command=shlex.join(["retrieval-distill", "run", file, "--out", f"runs/{run.path.resolve().name}"]),
        notes=provenance.notes(run),
    )


def differences(run: RunFolder) -> list[Difference]:
    """What matters on the headline measure, before a run is measured nothing: the student, and what dev chose, against
    the best system that needs no training; then the student against the model it started from and BM25.
    """
    if run.report is None:
        return []
    paired = run.paired(run.report.headline)
    if STUDENT not in paired or STUDENT not in run.reached:
        return []
    best, decided = verdict.best_untrained(run.report), run.report.distillation.use
    pairs = [(STUDENT, best), (decided.system if decided else STUDENT, best), (STUDENT, "start"), (STUDENT, "bm25")]
    return [
        wins.difference(ours, theirs, paired[ours], paired[theirs], _known(run.reached[ours], theirs))
        for ours, theirs in dict.fromkeys(pairs)
        if theirs in paired and ours in paired
    ]


def _known(found: Measured, theirs: str) -> dict[str, float] | None:
    """A difference as the report has it; ``None`` where it lacks it."""
    known = found.difference_vs.get(theirs)
    return {**asdict(known), "p": found.p[theirs]} if known else None


def latency(report: RunReport) -> list[Point]:
    """Every system's quality against its milliseconds for one query."""
    found = {name: system.latency_ms for name, system in report.systems.items()}
    return [_point(report, name, *((ms.p50, ms.low, ms.high) if ms else (None,))) for name, ms in found.items()]


def memory(report: RunReport) -> list[Point]:
    """Every system's quality against the bytes of its model and index."""
    return [_point(report, name, _bytes(system)) for name, system in report.systems.items()]


def _bytes(system: System) -> int | None:
    return None if system.index_bytes is None else system.index_bytes + (model_bytes(system) or 0)


def _point(
    report: RunReport, name: str, cost: float | None, low: float | None = None, high: float | None = None
) -> Point:
    """The headline measure with its interval against a cost; ``None``: nobody measured that."""
    value = report.values(report.headline)[name]
    return Point(name, cost, value.mean, value.low, value.high, name in TRAINED, low, high)


def _headline(run: RunFolder, against: verdict.Compared | None) -> str:
    if run.unmeasured:
        return f"The student is finished. {run.unmeasured}"
    if not run.report:
        step = f"; training has reached step {run.training_log[-1]['step']}" if run.training_log else ""
        return f"This run is not finished: still to come are {', '.join(run.missing) or 'its measures'}{step}."
    return verdict.headline(run.report, against)


def _facts(report: RunReport, compared: list[Difference]) -> list[Fact]:
    measure, student, gain_kept = report.headline, report.systems[STUDENT], report.distillation.gain_kept
    own = student.measures[measure]
    doubt = f"{share(0.95)}: {interval(*own.interval)}"
    facts = [Fact(f"{measure} of {verdict.called(STUDENT)}", number(own.mean), doubt)]
    for found in compared:
        whose = "" if found.ours == STUDENT else f"{verdict.called(found.ours)}, "
        doubt = f"{signed(found.low)} to {signed(found.high)}, {p_value(found.p)}"
        facts.append(Fact(f"{whose}against {verdict.called(found.theirs)}", signed(found.mean), doubt))
    if said := verdict.retention(report):
        value, _, doubt = said.partition(" (")
        gain = "" if gain_kept is None else f"{share(gain_kept)} of the teacher's gain over the start model"
        facts.append(Fact(f"of the teacher's {measure}", value, "; ".join(filter(None, [doubt.rstrip(")"), gain]))))
    if (taken := student.latency_ms) and taken.p95 is not None:
        doubt = f"median; 95th percentile {number(taken.p95, 1)} ms"
        facts.append(Fact("for one query", f"{number(taken.p50, 1)} ms", doubt))
    return facts


def _examples(run: RunFolder, compared: list[Difference]) -> tuple[list[Example], list[Example]]:
    if not compared or run.report is None or run.dataset is None or not run.runs:
        return [], []
    qrels = run.dataset.qrels(run.recipe["dataset"]["test"])
    paired = run.paired(run.report.headline)
    data = run.dataset
    runs = {
        name: self_hits.drop_self_hits(found, data.queries, data.documents, qrels) for name, found in run.runs.items()
    }
    return wins.examples(compared[0], paired, runs, data, qrels)
