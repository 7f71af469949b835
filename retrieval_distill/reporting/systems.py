"""The systems of a report as a table: values with intervals, letters for significant wins, speed and size.

Knows ``report.json``; must not know how it is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.formatting import SPACE, interval, listed, number, share, short, size
from retrieval_distill.reporting.letters import TEST, UNCORRECTED, beaten, marks
from retrieval_distill.reporting.report_file import RunReport
from retrieval_distill.reporting.report_systems import Latency, Split, System


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


REQUESTS = "requests"
"""What a system behind an endpoint is ``timed_as``."""

LENGTHS = ("short", "medium", "long")
"""Thirds of the corpus by length, in which encoding is timed."""

COSTS: dict[str, tuple[Callable[[System], Any], Callable[[Any], str]]] = {
    "parameters": (lambda system: system.parameters, lambda count: f"{count / 1e6:.1f} M"),
    "dimensions": (lambda system: system.dimensions, str),
    "tokens read": (lambda system: system.max_length, lambda tokens: f"{tokens:,}"),
    "ms per query, median": (lambda system: system.latency_ms, lambda found: _median(found)),
    "95th percentile": (lambda system: system.latency_ms and system.latency_ms.p95, lambda p95: number(p95, 1)),
    "with cold caches": (lambda system: system.cold_latency_ms, lambda found: number(found.p50, 1)),
    "index alone": (lambda system: system.index_search_ms, lambda found: number(found.p50, 1)),
    "documents per second": (lambda system: system.documents_per_second, lambda rate: short(round(rate))),
    "cost of 1,000 queries": (lambda system: system.cost_per_thousand_queries, lambda cost: number(cost, 4)),
    "model": (lambda system: model_bytes(system), size),
    "index": (lambda system: system.index_bytes, size),
}
"""Heading -> what a system's entry in ``report.json`` has (``None``: it was not measured), and how it is written. Its
``peak_memory_bytes`` are those of the whole process, which holds every system, and tell none from another."""


def model_bytes(system: System) -> int | None:
    """Bytes of a model's weights: as measured, or four for each parameter (float32); ``None`` without a model."""
    if system.model_bytes is not None or system.parameters is None:
        return system.model_bytes
    return 4 * system.parameters


def _median(found: Latency) -> str:
    """A median with its interval, where it has one."""
    ends = "" if found.low is None or found.high is None else f" ({interval(found.low, found.high, 1)})"
    return number(found.p50, 1) + ends


def rows(report: RunReport | Split | None) -> list[Row]:
    """A row per system of a finished report, or of a split beside its test split, in its order; empty before."""
    if report is None:
        return []
    letters, values = marks(report.systems), [report.values(measure) for measure in report.measures]
    return [
        Row(name, letters[name], [_cell(name, of, letters) for of in values], _costs(system))
        for name, system in report.systems.items()
    ]


def cost_table(table: Sequence[Row]) -> list[list[str]]:
    """Speed and size, headings first: a row per system and a column per cost, where anything was measured."""
    kept = [row for row in table if row.costs]
    headings = [heading for heading in COSTS if any(heading in row.costs for row in kept)]
    rows = [[row.name, *(row.costs.get(heading, "") for heading in headings)] for row in kept]
    return [["system", *headings], *rows] if rows else []


def encoding(report: RunReport) -> list[list[str]]:
    """A row per bi-encoder: documents that it encodes per second, by the length of the text."""
    rows = []
    for name, system in report.systems.items():
        found = [system.encode.get(length) for length in LENGTHS]
        cells = [f"{short(f.documents_per_second)} ({f.tokens:.0f} tokens)" if f else "" for f in found]
        rows += [[name, *cells]] if system.encode else []
    return rows


def legend(report: RunReport | Split) -> str:
    """What the table's letters mean, and what so many queries could have shown."""
    headline = report.measures[0]
    letters = ", ".join(f"{mark} = {name}" for name, mark in marks(report.systems).items())
    corrected = all(value.p_holm_vs for value in report.values(headline).values())
    test = (TEST if corrected else UNCORRECTED).replace(" < ", f"{SPACE}<{SPACE}")
    sentences = [
        f"With each mean stands its {share(0.95)} interval.",
        f"Each raised letter names a system that is beaten ({test}): {letters}.",
    ]
    if detectable := report.minimum_detectable.get(headline):
        found = f"a true difference in {headline} of {number(detectable)} is found four times in five"
        sentences.append(f"With so many queries {found} by a single test.")
    return " ".join(sentences)


def fusion(report: RunReport) -> list[list[str]]:
    """How BM25 is fused with either bi-encoder, headings first; empty where nothing was fused.

    What stands in the table of systems is the tuned fusion where dev queries are judged, else the untuned one.
    """
    headline, rows = report.headline, []
    for name, system in report.systems.items():
        if (how := system.fusion) is None:
            continue
        mean, untuned = system.measures[headline], how.untuned[headline]
        by = {"rank": "reciprocal ranks", "score": "scores from 0 to 1"}[how.method]
        tuned = f"{number(mean.mean)} ({interval(*mean.interval)})" if how.tuned else "not tuned"
        plain = f"{number(untuned.mean)} ({interval(*untuned.interval)})"
        rows.append([name, f"{how.dense:g} of the {by}, on {how.split}" if how.tuned else "", tuned, plain])
    headings = ["system", "weight of the bi-encoder, tuned", f"{headline}, tuned", "untuned (0.5)"]
    return [headings, *rows] if rows else []


def timing(report: RunReport) -> str:
    """How speed was measured, and which systems share a measurement; empty for a report that does not say."""
    found = {name: system.timed_as for name, system in report.systems.items() if system.timed_as}
    if not found:
        return ""
    asked = [name for name, first in found.items() if first == REQUESTS]
    timed = [first for first in found.values() if first != REQUESTS]
    together = {first: [name for name, other in found.items() if other == first] for first in timed}
    shared = [listed(names) for names in together.values() if len(names) > 1]
    sentences = [
        "The systems were timed in turns, so that whatever else the machine did slowed all of them; in brackets stands "
        f"the lowest and the highest median of a turn, a {share(0.97)} interval."
    ]
    if shared:
        sentences.append(f"Systems that do the same work were timed once: {'; '.join(shared)}.")
    if asked:
        sentences.append(f"What {listed(asked)} took is what the requests of this run to the endpoint took.")
    if found.get("teacher") == "scoring rate":
        sentences.append("The teacher's figure is what its scores cost per query, without the first stage.")
    elif "teacher" in found:
        depth = report.recipe["evaluate"]["rerank_depth"]
        sentences.append(f"The teacher's figures include the first stage, which finds the {depth} documents it reads.")
    return " ".join(sentences)


def _cell(name: str, values: Mapping[str, Measured], letters: Mapping[str, str]) -> Cell:
    own = values[name]
    return Cell(own.mean, own.low, own.high, tuple(letters[other] for other in beaten(name, values)))


def _costs(system: System) -> dict[str, str]:
    measured = {heading: read(system) for heading, (read, _) in COSTS.items()}
    return {heading: COSTS[heading][1](value) for heading, value in measured.items() if value is not None}
