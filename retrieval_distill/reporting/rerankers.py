"""The rerank benchmark for a person: a table, and a plot of quality against cost.

Knows the benchmark's rows; must not know how they were measured.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from retrieval_distill.evaluation.significance import ALPHA
from retrieval_distill.reporting.letters import TEST
from retrieval_distill.reporting.plain import plain
from retrieval_distill.runtime.files import write_json, write_text

logger = logging.getLogger("retrieval_distill")


def write(report: dict[str, Any], folder: Path) -> list[str]:
    """Write a benchmark that is done, and tell the names of what is in its folder."""
    write_json(folder / "report.json", report)
    write_text(folder / "report.txt", table(report) + "\n")
    plotted = plot(report, folder / "quality-against-cost.png")
    return ["report.json", "report.txt", "runs/", *([plotted.name] if plotted else [])]


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


def plot(report: dict[str, Any], path: Path) -> Path | None:
    """Quality (with its interval) against milliseconds per query; ``None`` without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        logger.warning("no plot: it needs pip install 'retrieval-distill[plot]'")
        return None
    mpl.use("agg")
    from matplotlib import pyplot

    measure = report["measures"][0]
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for run in dict.fromkeys(row["run"] for row in report["systems"]):
        rows = [row for row in report["systems"] if row["run"] == run]
        axes.axhline(rows[0][measure]["mean"], linestyle=":", color="grey")
        axes.annotate(f"{run}, as it is", (1, rows[0][measure]["mean"]), xycoords=("axes fraction", "data"), ha="right")
        for reranker in dict.fromkeys(row["reranker"] for row in rows[1:]):
            own = sorted((row for row in rows if row["reranker"] == reranker), key=lambda row: row["depth"])
            means = [row[measure]["mean"] for row in own]
            errors = [
                [mean - row[measure]["low"] for mean, row in zip(means, own, strict=True)],
                [row[measure]["high"] - mean for mean, row in zip(means, own, strict=True)],
            ]
            cost = [row["latency_ms"]["p50"] for row in own]
            axes.errorbar(cost, means, errors, marker="o", capsize=3, label=f"{run} + {reranker}")
            for row, x, y in zip(own, cost, means, strict=True):
                axes.annotate(f" {row['depth']}", (x, y))
    axes.set(xscale="log", xlabel="milliseconds per query (median)", ylabel=f"{measure}, 95 % interval")
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
    return path


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
        f"{report['queries']} queries; speed of one query at a time, memory of the whole process; * differs from its "
        f"first stage ({TEST})"
    )
