"""What the search for an index found, for people: a table and a page with plots.

Knows ``tuning.json``; must not know how it was measured.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.config import IntentConfig
from retrieval_distill.formatting import counted, number, short, size
from retrieval_distill.index.index_tuning_file import IndexTuning
from retrieval_distill.index.operating_points import Point
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.plots.tradeoff_chart import Mark, tradeoff
from retrieval_distill.reporting.templating import render
from retrieval_distill.runtime import stages

HEADINGS = ["index", "asked", "recall", "ms per query", "slowest 5 %", "memory"]

KNOBS = {"hnsw": "efSearch", "ivf": "nprobe", "ivf-pq": "nprobe"}


def table(report: IndexTuning) -> str:
    """The Pareto front where it has the recall asked for (else all of it), fastest first, and what was chosen."""
    from rich.table import Table

    grid = Table("", *HEADINGS[:2])
    for heading in HEADINGS[2:]:
        grid.add_column(heading, justify="right")
    good = [point for point in report.front if point.recall >= report.intent.recall]
    for point in good or report.front:
        grid.add_row("*" if report.is_chosen(point) else "", *_row(point))
    return f"{plain(110, grid)}\n{verdict(report)}"


def page(report: IndexTuning) -> str:
    """An HTML page that needs nothing else."""
    intent = report.intent
    axes = (
        ("Recall and latency", "milliseconds", "ms per query, median", lambda v: f"{short(v)} ms", "latency_ms"),
        ("Recall and memory", "memory", "bytes of the index", lambda v: size(v).replace(".0 ", " "), "memory"),
    )
    plots = [
        (
            heading,
            tradeoff(
                heading,
                [Mark(p.kind, p.recall, getattr(p, cost), p.front, report.is_chosen(p)) for p in report.points],
                label, text, intent.recall, getattr(intent, limit),
            ),
        )
        for heading, cost, label, text, limit in axes
    ]  # fmt: skip
    return render(
        "tuning.html",
        title=f"An index for {counted(report.documents, 'vector')}",
        kicker="Index, tuned",
        sections=[("plots", "What was tried"), ("front", "Not beaten"), ("how", "How it was measured")],
        report=report,
        verdict=verdict(report),
        plots=plots,
        headings=[HEADINGS[0], *HEADINGS[2:]],
        rows=[
            [_name(point) + (" (chosen)" if report.is_chosen(point) else ""), *_row(point)[2:]]
            for point in report.front
        ],
        asked=asked(intent),
    )


def write(folder: Path) -> IndexTuning | None:
    """Write the page of an index folder, and return what it shows; ``None`` if the index was not tuned."""
    if report := IndexTuning.read(folder):
        stages.attach(folder, "tuning.html", page(report))
    return report


def verdict(report: IndexTuning) -> str:
    """What was chosen, what it gives on queries it was not chosen by, and whether that is what was asked for."""
    chosen, fresh = report.chosen, report.fresh
    recall = fresh.recall
    found = (
        f"{_name(chosen)}: recall@{report.intent.depth} {number(recall.mean)} ({number(recall.low)} to "
        f"{number(recall.high)}) on {report.queries.measured_by} other queries, "
        f"{short(round(fresh.latency_ms.p50, 3))} ms per query, {size(chosen.memory)}"
    )
    if report.met:
        return f"Chosen as the cheapest (memory times latency) for {asked(report.intent)}: {found}."
    missed = " and ".join(report.missed)
    return f"Nothing that was tried gives {asked(report.intent)}. Nearest, but missing the {missed}: {found}."


def asked(intent: IntentConfig) -> str:
    """The intent in words."""
    parts = [f"recall@{intent.depth} of {intent.recall:g} or more"]
    parts += [f"at most {size(intent.memory)}"] if intent.memory else []
    parts += [f"at most {intent.latency_ms:g} ms"] if intent.latency_ms else []
    return ", ".join(parts)


def _name(point: Point) -> str:
    return ", ".join(part for part in (point.kind, _how(point)) if part)


def _how(point: Point) -> str:
    knob = f"{KNOBS[point.kind]} {point.setting}" if point.setting is not None else ""
    again = f"rescoring {point.rescore}x" if point.rescore else ""
    return ", ".join(part for part in (knob, again) if part)


def _row(point: Point) -> list[str]:
    milliseconds = (number(getattr(point, key)) for key in ("milliseconds", "slow_milliseconds"))
    return [point.kind, _how(point), number(point.recall), *milliseconds, size(point.memory)]
