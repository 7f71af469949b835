"""The systems of a report as a table: values with intervals, letters for significant wins, speed and size.

Knows ``report.json``; must not know how it is shown.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retrieval_distill.reporting.text import number, short, size

MARK = {"bm25": "b", "start": "s", "student": "d", "teacher": "t"}
"""Letters of the pipeline's own systems; others get the first free ones."""

ALPHA = 0.05
"""A value carries the letter of each system it beats with a p-value below this."""


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


COSTS = {
    "parameters": lambda system: f"{system['parameters'] / 1e6:.1f} M",
    "dimensions": lambda system: str(system["dimensions"]),
    "ms per query, median": lambda system: number(system["latency_ms"]["p50"], 1),
    "95th percentile": lambda system: number(system["latency_ms"]["p95"], 1),
    "documents per second": lambda system: short(round(system["documents_per_second"])),
    "model": lambda system: size(model_bytes(system)),
    "index": lambda system: size(system["index_bytes"]),
}
"""Heading -> how a system's entry in ``report.json`` is read."""


def model_bytes(system: dict[str, Any]) -> int:
    """Bytes of a model's weights: as measured, or four for each parameter (float32, as students are saved)."""
    return system["model_bytes"] if "model_bytes" in system else 4 * system["parameters"]


def marks(names: Sequence[str]) -> dict[str, str]:
    """A letter per system."""
    free = (letter for letter in string.ascii_lowercase + string.ascii_uppercase if letter not in MARK.values())
    return {name: MARK.get(name) or next(free) for name in names}


def p_values(value: dict[str, Any]) -> dict[str, float]:
    """A value's p against each other system, corrected for their number where the report says so."""
    return value.get("p_holm_vs") or value["p_vs"]


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


def cost_headings(table: Sequence[Row]) -> list[str]:
    """The costs that at least one system has."""
    return [heading for heading in COSTS if any(heading in row.costs for row in table)]


def legend(rows: Sequence[Row]) -> str:
    """What the letters of a table mean."""
    letters = ", ".join(f"{row.letter} {row.name}" for row in rows)
    return (
        f"Below each mean its 95 % interval. A raised letter names a system that is beaten, p < {ALPHA} in a "
        f"paired randomisation test over the same queries: {letters}."
    )


def _cell(name: str, measure: str, systems: dict[str, Any], letters: dict[str, str]) -> Cell:
    own = systems[name][measure]
    beaten = [
        other for other, p in p_values(own).items() if p < ALPHA and own["mean"] > systems[other][measure]["mean"]
    ]
    return Cell(own["mean"], own["low"], own["high"], "".join(sorted(letters[other] for other in beaten)))


def _costs(system: dict[str, Any]) -> dict[str, str]:
    costs = {}
    for heading, read in COSTS.items():
        try:
            costs[heading] = read(system)
        except KeyError:
            continue
    return costs
