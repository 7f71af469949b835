"""Operating points of indexes: the Pareto front, and the cheapest point that meets an intent.

Knows numbers; must not know FAISS, files or how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from retrieval_distill.config import IntentConfig

T = TypeVar("T")


@dataclass(frozen=True)
class Point:
    """One way to search one index, and what was measured.

    Args:
        kind: The index's kind.
        setting: The value of the kind's knob; ``None``: no knob.
        rescore: Rescoring depth; 0: none.
        recall: Share of the exact best documents found, mean over queries.
        milliseconds: Latency of a single query, median.
        slow_milliseconds: The same, 95th percentile.
        memory: Bytes of the index.
    """

    kind: str
    setting: int | None
    rescore: int
    recall: float
    milliseconds: float
    slow_milliseconds: float
    memory: int

    @property
    def cost(self) -> float:
        """Memory times latency, which ranks points that meet the intent without weighing one against the other."""
        return self.memory * self.milliseconds


def front(points: Sequence[Point]) -> list[Point]:
    """The Pareto front: points that no other one matches in recall, latency and memory and beats in one of them."""
    return not_beaten(points, lambda point: (-point.recall, point.milliseconds, point.memory))


def not_beaten(points: Sequence[T], costs: Callable[[T], tuple[float, ...]]) -> list[T]:
    """The Pareto front of anything: what nothing else matches in all of its costs and beats in one of them."""
    found = [(point, costs(point)) for point in points]
    return [point for point, ours in found if not any(_beats(theirs, ours) for _, theirs in found)]


def choose(points: Sequence[Point], intent: IntentConfig) -> Point:
    """The cheapest point that meets the intent or, if none does, the one that misses it by least."""
    return min(points, key=lambda point: (sum(shortfalls(point, intent).values()), point.cost, -point.recall))


def shortfalls(point: Point, intent: IntentConfig) -> dict[str, float]:
    """The limits a point misses -> the log of the ratio to the limit (for recall: of the error rates)."""
    limits = {
        "recall": (max(1 - point.recall, 1e-3), max(1 - intent.recall, 1e-3), point.recall < intent.recall),
        "memory": (point.memory, intent.memory, intent.memory is not None and point.memory > intent.memory),
        "latency": (
            point.milliseconds, intent.latency_ms,
            intent.latency_ms is not None and point.milliseconds > intent.latency_ms,
        ),
    }  # fmt: skip
    return {name: math.log(have / limit) + 1e-9 for name, (have, limit, missed) in limits.items() if missed and limit}


def _beats(ours: tuple[float, ...], theirs: tuple[float, ...]) -> bool:
    return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))
