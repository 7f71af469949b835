"""What the search for an index found, for people: a table and a page with plots.

Knows ``tuning.json``; must not know how it was measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill.formatting import number, short, size
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.plots.tradeoff_chart import Mark, tradeoff
from retrieval_distill.reporting.templating import render
from retrieval_distill.runtime import stages

HEADINGS = ["index", "asked", "recall", "ms per query", "slowest 5 %", "memory"]

KNOBS = {"hnsw": "efSearch", "ivf": "nprobe", "ivf-pq": "nprobe"}


def table(report: dict[str, Any]) -> str:
    """The Pareto front where it has the recall asked for (else all of it), fastest first, and what was chosen."""
    from rich.table import Table

    grid = Table("", *HEADINGS[:2])
    for heading in HEADINGS[2:]:
        grid.add_column(heading, justify="right")
    good = [point for point in _front(report) if point["recall"] >= report["intent"]["recall"]]
    for point in good or _front(report):
        grid.add_row("*" if _is_chosen(point, report) else "", *_row(point))
    return f"{plain(110, grid)}\n{verdict(report)}"


def page(report: dict[str, Any]) -> str:
    """An HTML page that needs nothing else."""
    intent = report["intent"]
    axes = (
        ("Recall and latency", "milliseconds", "ms per query, median", lambda v: f"{short(v)} ms", "latency_ms"),
        ("Recall and memory", "memory", "bytes of the index", lambda v: size(v).replace(".0 ", " "), "memory"),
    )
    plots = [
        (
            heading,
            tradeoff(
                heading,
                [Mark(p["kind"], p["recall"], p[cost], p["front"], _is_chosen(p, report)) for p in report["points"]],
                label, text, intent["recall"], intent[limit],
            ),
        )
        for heading, cost, label, text, limit in axes
    ]  # fmt: skip
    return render(
        "tuning.html",
        title=f"An index for {report['documents']:,} vectors",
        kicker="Index, tuned",
        sections=[("plots", "What was tried"), ("front", "Not beaten"), ("how", "How it was measured")],
        report=report,
        verdict=verdict(report),
        plots=plots,
        headings=[HEADINGS[0], *HEADINGS[2:]],
        rows=[
            [_name(point) + (" (chosen)" if _is_chosen(point, report) else ""), *_row(point)[2:]]
            for point in _front(report)
        ],
        asked=asked(intent),
    )


def write(folder: Path) -> Path:
    """The page beside the report of an index folder."""
    return stages.attach(folder, "tuning.html", page(stages.read_json(folder / "tuning.json")))


def verdict(report: dict[str, Any]) -> str:
    """What was chosen, what it gives on queries it was not chosen by, and whether that is what was asked for."""
    chosen, fresh = report["chosen"], report["fresh"]
    recall = fresh["recall"]
    found = (
        f"{_name(chosen)}: recall@{report['intent']['depth']} {number(recall['mean'])} ({number(recall['low'])} to "
        f"{number(recall['high'])}) on {report['queries']['measured_by']} other queries, "
        f"{short(round(fresh['latency_ms']['p50'], 3))} ms per query, {size(chosen['memory'])}"
    )
    if report["met"]:
        return f"Chosen as the cheapest (memory times latency) for {asked(report['intent'])}: {found}."
    missed = " and ".join(report["missed"])
    return f"Nothing that was tried gives {asked(report['intent'])}. Nearest, but missing the {missed}: {found}."


def asked(intent: dict[str, Any]) -> str:
    """The intent in words."""
    parts = [f"recall@{intent['depth']} of {intent['recall']:g} or more"]
    parts += [f"at most {size(intent['memory'])}"] if intent["memory"] else []
    parts += [f"at most {intent['latency_ms']:g} ms"] if intent["latency_ms"] else []
    return ", ".join(parts)


def _front(report: dict[str, Any]) -> list[dict[str, Any]]:
    return sorted((p for p in report["points"] if p["front"]), key=lambda point: point["milliseconds"])


def _is_chosen(point: dict[str, Any], report: dict[str, Any]) -> bool:
    return all(point[key] == report["chosen"][key] for key in ("kind", "setting", "rescore"))


def _name(point: dict[str, Any]) -> str:
    return ", ".join(part for part in (point["kind"], _how(point)) if part)


def _how(point: dict[str, Any]) -> str:
    knob = f"{KNOBS[point['kind']]} {point['setting']}" if point["setting"] is not None else ""
    again = f"rescoring {point['rescore']}x" if point["rescore"] else ""
    return ", ".join(part for part in (knob, again) if part)


def _row(point: dict[str, Any]) -> list[str]:
    milliseconds = (number(point[key]) for key in ("milliseconds", "slow_milliseconds"))
    return [point["kind"], _how(point), number(point["recall"]), *milliseconds, size(point["memory"])]
