"""The report as one HTML page that needs nothing else: findings in, text and plots out.

Knows findings, plots and templates; must not know how anything was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from retrieval_distill.formatting import interval, number, short, size
from retrieval_distill.reporting import systems
from retrieval_distill.reporting.findings import Findings
from retrieval_distill.reporting.plots import charts
from retrieval_distill.reporting.plots.charts import Point
from retrieval_distill.reporting.teaching import Curve
from retrieval_distill.reporting.templating import render
from retrieval_distill.runtime.progress import clock

SECTIONS = [
    ("systems", "Systems", "at the end of the run"),
    ("cost", "Quality against cost", "at the end of the run"),
    ("wins", "Won and lost", "at the end of the run"),
    ("teacher", "Teacher", "with the stages gate and score"),
    ("fidelity", "Faithful to the teacher?", "at the end of the run"),
    ("training", "Training", "with the stage distill"),
    ("stages", "What it cost", "with the first stage"),
    ("data", "Data and environment", ""),
    ("recipe", "Do it again", ""),
]
"""Anchor and name of each part, and when it comes."""

LOG_ROWS = 60
"""Rows of a training log up to which the page shows them as a table too."""


def page(findings: Findings) -> str:
    """The whole page of one run; parts that it has not come to yet are named at the end."""
    shown = {
        "waterfalls": _waterfalls(findings),
        "pareto": pareto(findings.latency, findings.memory, next(iter(findings.measures), "")),
        "histogram": _histogram(findings),
        "curves": [charts.lines(curve.name, curve.points, curve.band, "step") for curve in findings.curves],
        "stage_charts": _stage_charts(findings),
    }
    there = {
        "systems": findings.rows, "cost": shown["pareto"], "wins": shown["waterfalls"],
        "teacher": findings.gate or shown["histogram"], "fidelity": findings.fidelity, "training": shown["curves"],
        "stages": shown["stage_charts"],
    }  # fmt: skip
    sections = [(id_, name) for id_, name, _ in SECTIONS if there.get(id_, True)]
    absent = [(name, when) for id_, name, when in SECTIONS if not there.get(id_, True)] if findings.is_under_way else []
    return render(
        "run.html",
        title=findings.title,
        kicker="Distillation report",
        sections=[*sections, ("absent", "Still to come")] if absent else sections,
        absent=absent,
        findings=findings,
        costs=systems.cost_table(findings.rows),
        log=_log(findings.curves),
        stage_rows=[[s.name, clock(s.seconds), size(s.peak_memory_bytes), s.rate] for s in findings.stages],
        **shown,
    )


def pareto(
    latency: Sequence[Point], memory: Sequence[Point], measure: str
) -> list[tuple[str, Markup, list[list[str]]]]:
    """(heading, plot, its numbers) of quality against latency and against memory, where any system has the cost."""
    axes = (
        ("Quality and latency", latency, "ms per query, median (logarithmic)", lambda v: f"{short(v)} ms"),
        ("Quality and memory", memory, "bytes of model and index (logarithmic)", lambda v: size(v).replace(".0 ", " ")),
    )
    return [
        (
            heading,
            charts.scatter(heading, points, x_label, f"{measure}, 95 % interval", x_text),
            [_numbers(p, x_text) for p in points],
        )
        for heading, points, x_label, x_text in axes
        if any(point.x is not None for point in points)
    ]


def _numbers(point: Point, x_text: Any) -> list[str]:
    cost = "not measured" if point.x is None else x_text(point.x)
    return [point.label, cost, number(point.y), interval(point.low, point.high)]


def _waterfalls(findings: Findings) -> list[tuple[Any, Markup]]:
    label = f"difference in {next(iter(findings.measures), '')}"
    return [
        (d, charts.waterfall(f"{d.ours} against {d.theirs}", d.values.tolist(), d.ours, d.theirs, label))
        for d in findings.differences
    ]


def _histogram(findings: Findings) -> Markup | None:
    if findings.scores is None:
        return None
    edges, counts = findings.scores.edges, findings.scores.counts
    return charts.histogram("Teacher scores of the training candidates", edges, counts, "teacher's score")


def _log(curves: Sequence[Curve]) -> list[list[str]]:
    """The curves as a table, headings first; empty where there are too many rows to read."""
    columns = [dict(curve.points) for curve in curves]
    steps = sorted({step for values in columns for step in values})
    if len(steps) > LOG_ROWS:
        return []
    rows = [[f"{step:,}", *[short(v[step]) if step in v else "" for v in columns]] for step in steps]
    return [["step", *(curve.name for curve in curves)], *rows]


def _stage_charts(findings: Findings) -> list[tuple[str, Markup]]:
    if not findings.stages:
        return []
    seconds = [(stage.name, stage.seconds) for stage in findings.stages]
    memory = [(stage.name, float(stage.peak_memory_bytes)) for stage in findings.stages]
    total = f"Time, {clock(sum(value for _, value in seconds))} in all"
    return [(total, charts.bars("Time of each stage", seconds, clock)),
            ("Peak memory", charts.bars("Peak memory of each stage", memory, size))]  # fmt: skip
