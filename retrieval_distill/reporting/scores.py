"""A score store for a person: its teachers, how many pairs each has scored, and what their scores look like.

Knows a store's contents and the terminal; must not know how scores are kept or made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retrieval_distill.formatting import counted, size
from retrieval_distill.scores.statistics import statistics
from retrieval_distill.scores.store import ScoreStore

BARS = " ▁▂▃▄▅▆▇█"
"""Heights of a bar; only an empty one is blank."""

HEADINGS = ("teacher", "kind", "model", "max length", "dtype", "pairs", "shards", "size")

RIGHT_FROM = HEADINGS.index("pairs")
"""Numbers stand to the right of their columns."""


def show(store: ScoreStore) -> str:
    """The store as text: a row per teacher, and below it the histogram, the spread and the warnings."""
    teachers = store.fingerprints()
    if not teachers:
        return f"{store.root}: no teacher has scored anything yet"
    found = [statistics(store, teacher) if store.shards(teacher) else None for teacher in teachers]
    rows = [HEADINGS, *(_row(store, teacher, seen) for teacher, seen in zip(teachers, found, strict=True))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_aligned(HEADINGS, widths)]
    for row, seen in zip(rows[1:], found, strict=True):
        lines += [_aligned(row, widths), *(_details(seen) if seen else ["  no scores yet"])]
    return "\n".join(lines)


def histogram(counts: list[int]) -> str:
    """A line of blocks, the highest for the largest count; what is not empty shows."""
    highest = max(counts, default=0) or 1
    return "".join(BARS[int(np.ceil(count / highest * (len(BARS) - 1)))] for count in counts)


def _row(store: ScoreStore, teacher: str, seen: dict[str, Any] | None) -> tuple[str, ...]:
    described, shards = store.description(teacher), store.shards(teacher)
    known = (str(described.get(key, "-")) for key in ("kind", "model", "max_length", "dtype"))
    pairs = seen["pairs"] if seen else 0
    return (
        teacher[:8],
        *known,
        f"{pairs:,}",
        f"{len(shards):,}",
        size(sum(shard.stat().st_size for shard in shards)),
    )


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    cells = [
        cell.rjust(width) if column >= RIGHT_FROM else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def _details(seen: dict[str, Any]) -> list[str]:
    within = seen["within_query"]
    lines = [
        f"  {seen['minimum']:.2f} [{histogram(seen['histogram']['counts'])}] {seen['maximum']:.2f}   "
        f"mean {seen['mean']:.3g}, standard deviation {seen['standard_deviation']:.3g}",
        f"  {counted(seen['queries'], 'query')}, {counted(seen['documents'], 'document')}",
    ]
    if within["queries"]:
        lines[-1] += (
            f"; within a query (median): standard deviation {within['standard_deviation']:.3g}, "
            f"best to worst {within['range']:.3g}"
        )
    return lines + [f"  warning: {warning}" for warning in seen["warnings"]]
