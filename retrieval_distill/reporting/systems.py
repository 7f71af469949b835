"""The systems of a report as a table: values with intervals, letters for significant wins, speed and size.

Knows ``report.json``; must not know how it is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from retrieval_distill.formatting import SPACE, interval, listed, number, share, short, size
from retrieval_distill.reporting.letters import TEST, UNCORRECTED, beaten, marks


@dataclass(frozen=True)
class Cell:
    """A system's mean of one measure with its 95 % interval, and the letters of the systems it beats."""

    mean: float
    low: float
    high: float
    letters: tuple[str, ...]


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
    "tokens read": lambda system: f"{system['max_length']:,}",
    "ms per query, median": lambda system: _median(system["latency_ms"]),
    "95th percentile": lambda system: number(system["latency_ms"]["p95"], 1),
    "with cold caches": lambda system: number(system["cold_latency_ms"]["p50"], 1),
    "index alone": lambda system: number(system["index_search_ms"]["p50"], 1),
    "documents per second": lambda system: short(round(system["documents_per_second"])),
    "model": lambda system: size(model_bytes(system)),
    "index": lambda system: size(system["index_bytes"]),
}
"""Heading -> how a system's entry in ``report.json`` is read. Its ``peak_memory_bytes`` are those of the whole process,
which holds every system, and tell none from another."""


def model_bytes(system: dict[str, Any]) -> int:
    """Bytes of a model's weights: as measured, or four for each parameter (float32); a KeyError without a model."""
    return system["model_bytes"] if "model_bytes" in system else 4 * system["parameters"]


def _median(milliseconds: dict[str, float]) -> str:
    """A median with its interval, where it has one."""
    ends = f" ({interval(milliseconds['low'], milliseconds['high'], 1)})" if "low" in milliseconds else ""
    return number(milliseconds["p50"], 1) + ends


def rows(report: dict[str, Any]) -> list[Row]:
    """A row per system of a finished report, in its order; empty before."""
    systems = report.get("systems", {})
    letters = marks(list(systems))
    return [
        Row(name, letters[name], [_cell(name, m, systems, letters) for m in measures(report)], _costs(system))
        for name, system in systems.items()
    ]


def measures(report: dict[str, Any]) -> list[str]:
    """The measures of a report, or of a split beside its test split; the headline first."""
    return list(report.get("measures") or report["recipe"]["evaluate"]["measures"]) if report else []


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
    """What the table's letters mean, and what so many queries could have shown; empty before a report."""
    if not report:
        return ""
    headline = measures(report)[0]
    letters = ", ".join(f"{mark} = {name}" for name, mark in marks(report["systems"]).items())
    corrected = all("p_holm_vs" in system[headline] for system in report["systems"].values())
    test = (TEST if corrected else UNCORRECTED).replace(" < ", f"{SPACE}<{SPACE}")
    sentences = [
        f"With each mean stands its {share(0.95)} interval.",
        f"Each raised letter names a system that is beaten ({test}): {letters}.",
    ]
    if detectable := report.get("minimum_detectable", {}).get(headline):
        found = f"a true difference in {headline} of {number(detectable)} is found four times in five"
        sentences.append(f"With so many queries {found} by a single test.")
    return " ".join(sentences)


def fusion(report: dict[str, Any]) -> list[list[str]]:
    """How BM25 is fused with either bi-encoder, headings first; empty where nothing was fused.

    What stands in the table of systems is the tuned fusion where dev queries are judged, else the untuned one.
    """
    found = {name: system for name, system in report.get("systems", {}).items() if "fusion" in system}
    if not found:
        return []
    headline = measures(report)[0]
    rows = []
    for name, system in found.items():
        how, mean, untuned = system["fusion"], system[headline], system["fusion"]["untuned"][headline]
        by = {"rank": "reciprocal ranks", "score": "scores from 0 to 1"}[how["method"]]
        tuned = f"{number(mean['mean'])} ({interval(mean['low'], mean['high'])})" if how["tuned"] else "not tuned"
        plain = f"{number(untuned['mean'])} ({interval(untuned['low'], untuned['high'])})"
        rows.append([name, f"{how['dense']:g} of the {by}, on {how['split']}" if how["tuned"] else "", tuned, plain])
    headings = ["system", "weight of the bi-encoder, tuned", f"{headline}, tuned", "untuned (reciprocal ranks, 0.5)"]
    return [headings, *rows]


def timing(report: dict[str, Any]) -> str:
    """How speed was measured, and which systems share a measurement; empty for a report that does not say."""
    found = {name: system["timed_as"] for name, system in report.get("systems", {}).items() if "timed_as" in system}
    if not found:
        return ""
    together = {first: [name for name, other in found.items() if other == first] for first in found.values()}
    shared = [listed(names) for names in together.values() if len(names) > 1]
    sentences = [
        "The systems were timed in turns, so that whatever else the machine did slowed all of them; in brackets stands "
        f"the lowest and the highest median of a turn, a {share(0.97)} interval."
    ]
    if shared:
        sentences.append(f"Systems that do the same work were timed once: {'; '.join(shared)}.")
    if found.get("teacher") == "scoring rate":
        sentences.append("The teacher's figure is what its scores cost per query, without the first stage.")
    elif "teacher" in found:
        depth = report["recipe"]["evaluate"]["rerank_depth"]
        sentences.append(f"The teacher's figures include the first stage, which finds the {depth} documents it reads.")
    return " ".join(sentences)


def _cell(name: str, measure: str, systems: dict[str, Any], letters: dict[str, str]) -> Cell:
    own, below = systems[name][measure], beaten(name, measure, systems)
    return Cell(own["mean"], own["low"], own["high"], tuple(letters[other] for other in below))


def _costs(system: dict[str, Any]) -> dict[str, str]:
    costs = {}
    for heading, read in COSTS.items():
        try:
            costs[heading] = read(system)
        except KeyError:
            continue
    return costs
