"""The systems of a report as a table: values with intervals, letters for significant wins, speed and size.

Knows ``report.json``; must not know how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retrieval_distill.formatting import SPACE, number, share, short, size
from retrieval_distill.reporting.letters import TEST, UNCORRECTED, beaten, marks


@dataclass(frozen=True)
class Cell:
    """A system's mean of one measure with its 95 % interval, and the letters of the systems it beats."""

    mean: float
    low: float
    high: float
    letters: str


@dataclass(frozen=True)
class Row:
    """A system: its letter, a cell per measure, and what it costs (heading -> text, only what was measured)."""

    name: str
    letter: str
    cells: list[Cell]
    costs: dict[str, str]


LENGTHS = ("short", "medium", "long")
"""Thirds of the corpus by length, in which encoding is timed."""

COSTS = {
    "parameters": lambda system: f"{system['parameters'] / 1e6:.1f} M",
    "dimensions": lambda system: str(system["dimensions"]),
    "ms per query, median": lambda system: number(system["latency_ms"]["p50"], 1),
    "95th percentile": lambda system: number(system["latency_ms"]["p95"], 1),
    "with cold caches": lambda system: number(system["cold_latency_ms"]["p50"], 1),
    "index alone": lambda system: number(system["index_search_ms"]["p50"], 1),
    "documents per second": lambda system: short(round(system["documents_per_second"])),
    "model": lambda system: size(model_bytes(system)),
    "index": lambda system: size(system["index_bytes"]),
    "peak memory": lambda system: size(system["peak_memory_bytes"]),
}
"""Heading -> how a system's entry in ``report.json`` is read."""


def model_bytes(system: dict[str, Any]) -> int:
    """Bytes of a model's weights: as measured, or four for each parameter (float32); a KeyError without a model."""
    return system["model_bytes"] if "model_bytes" in system else 4 * system["parameters"]


def rows(report: dict[str, Any]) -> list[Row]:
    """A row per system of a finished report, in its order; empty before."""
    systems = report.get("systems", {})
    letters = marks(list(systems))
    return [
        Row(name, letters[name], [_cell(name, m, systems, letters) for m in measures(report)], _costs(system))
        for name, system in systems.items()
    ]


def measures(report: dict[str, Any]) -> list[str]:
    """The report's measures, the headline first."""
    return list(report["recipe"]["evaluate"]["measures"]) if report else []


def cost_table(table: Sequence[Row]) -> list[list[str]]:
    """Speed and size, headings first: a row per system and a column per cost, where anything was measured."""
    kept = [row for row in table if row.costs]
    headings = [heading for heading in COSTS if any(heading in row.costs for row in kept)]
    rows = [[row.name, *(row.costs.get(heading, "") for heading in headings)] for row in kept]
    return [["system", *headings], *rows] if rows else []


def encoding(report: dict[str, Any]) -> list[list[str]]:
    """A row per bi-encoder: documents that it encodes per second, by the length of the text."""
    measured = {name: system["encode"] for name, system in report.get("systems", {}).items() if "encode" in system}
    rows = []
    for name, by_length in measured.items():
        found = [by_length.get(length) for length in LENGTHS]
        cells = [f"{short(f['documents_per_second'])} ({f['tokens']:.0f} tokens)" if f else "" for f in found]
        rows.append([name, *cells])
    return rows


def legend(report: dict[str, Any]) -> str:
    """What the table's intervals and letters mean, and what so many queries could have shown; empty before a report."""
    if not report:
        return ""
    headline = measures(report)[0]
    letters = ", ".join(f"{mark} {name}" for name, mark in marks(report["systems"]).items())
    corrected = all("p_holm_vs" in system[headline] for system in report["systems"].values())
    test = (TEST if corrected else UNCORRECTED).replace(" < ", f"{SPACE}<{SPACE}")
    sentences = [
        f"With each mean stands its {share(0.95)} interval.",
        f"A raised letter names a system that is beaten ({test}): {letters}.",
    ]
    if detectable := report.get("minimum_detectable", {}).get(headline):
        found = f"a true difference in {headline} of {number(detectable)} is found four times in five."
        sentences.append(f"With so many queries {found}")
    return " ".join(sentences)


def _cell(name: str, measure: str, systems: dict[str, Any], letters: dict[str, str]) -> Cell:
    own, below = systems[name][measure], beaten(name, measure, systems)
    return Cell(own["mean"], own["low"], own["high"], "".join(sorted(letters[other] for other in below)))


def _costs(system: dict[str, Any]) -> dict[str, str]:
    costs = {}
    for heading, read in COSTS.items():
        try:
            costs[heading] = read(system)
        except KeyError:
            continue
    return costs
