"""The rerank benchmark for a person: a table, and a plot of quality against cost.

Knows the benchmark's rows; must not know how they were measured.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from retrieval_distill.evaluation.significance import ALPHA
from retrieval_distill.formatting import counted, short
from retrieval_distill.reporting.letters import TEST
from retrieval_distill.reporting.plain import plain
from retrieval_distill.reporting.plots.charts import Point, scatter
from retrieval_distill.reporting.templating import render
from retrieval_distill.runtime.files import write_json, write_text


def write(report: dict[str, Any], folder: Path) -> list[str]:
    """Write a benchmark that is done, and tell the names of what is in its folder."""
    write_json(folder / "report.json", report)
    write_text(folder / "report.txt", table(report) + "\n")
    return ["report.json", "report.txt", "runs/", plot(report, folder / "quality-against-cost.svg").name]


def table(report: dict[str, Any]) -> str:
    """A row per system; ``*`` marks a headline that differs from its first stage's with p < 0.05."""
    from rich.table import Table

    measures = report["measures"]
    grid = Table("system", *measures, caption_justify="left", caption=_legend(report))
    for heading in (f"95 % of {measures[0]}", "pairs/s", "ms/query p50", "p95", "peak memory"):
        grid.add_column(heading, justify="right")
    for row in report["systems"]:
        values = [f"{row[measure]['mean']:.3f}{_star(row[measure])}" for measure in measures]
        interval = f"{row[measures[0]]['low']:.3f}-{row[measures[0]]['high']:.3f}"
        grid.add_row(row["name"], *values, interval, *_costs(row))
    return plain(160, grid)


def plot(report: dict[str, Any], path: Path) -> Path:
    """Quality (with its interval) against milliseconds per query, as an SVG; each first stage is a line across."""
    measure = report["measures"][0]
    points = [
        Point(row["name"], row["latency_ms"]["p50"] if row["reranker"] else None,
              row[measure]["mean"], row[measure]["low"], row[measure]["high"], bool(row["reranker"]))
        for row in report["systems"]
    ]  # fmt: skip
    chart = scatter(
        "Quality and cost", points, "ms per query, median (logarithmic)", f"{measure}, 95 % interval",
        lambda value: f"{short(value)} ms",
    )  # fmt: skip
    style = f"<style>{render('style.css')}svg {{ font-family: system-ui, sans-serif; }}</style>"
    return write_text(path, chart.replace(">", Markup(f">{style}"), 1) + "\n")


def _star(value: dict[str, Any]) -> str:
    return "*" if any(p < ALPHA for p in value["p_holm_vs"].values()) else ""


def _costs(row: dict[str, Any]) -> list[str]:
    if row["reranker"] is None:
        return [""] * 4
    milliseconds = row["latency_ms"]
    return [
        f"{row['pairs_per_second']:.0f}",
        f"{milliseconds['p50']:.0f}",
        f"{milliseconds['p95']:.0f}",
        f"{row['peak_memory_bytes'] / 1e9:.2f} GB",
    ]


def _legend(report: dict[str, Any]) -> str:
    return (
        f"{counted(report['queries'], 'query')}; speed of one query at a time, memory of the whole process; * differs "
        f"from its first stage ({TEST})"
    )
