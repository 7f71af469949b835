"""The plot of what an index gives for what it costs: recall against latency, or memory, one mark per way to ask it.

Knows shapes; must not know how anything was measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retrieval_distill.formatting import share
from retrieval_distill.reporting.plots import svg
from retrieval_distill.reporting.plots.svg import Scale

WIDTH, HEIGHT = 400, 330

TOP, BOTTOM, LEFT = 66, 276, 52

FLOOR = 1e-3
"""Errors below this are drawn here: a few hundred queries cannot tell them apart."""

RECALLS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)

SHAPES = ((4, 45), (3, -90), (3, 90), (4, 0), (18, 0), (5, -90))
"""Corners of each kind's mark and how far it is turned: kinds differ by shape as well as by colour."""


@dataclass(frozen=True)
class Mark:
    """A way to ask an index: its kind, recall and cost, whether nothing beats it, and whether it was chosen."""

    kind: str
    recall: float
    cost: float
    front: bool
    chosen: bool = False


@dataclass(frozen=True)
class Nines(Scale):
    """A scale of errors (1 - recall), logarithmic, on which 0.9, 0.99 and 0.999 lie equally far apart."""

    def ticks(self, count: int = 4) -> list[float]:
        """Errors of familiar recalls within the scale."""
        errors = (1 - recall for recall in RECALLS)
        return [error for error in errors if self.high * 0.999 <= error <= self.low * 1.001]


def tradeoff(
    title: str, marks: Sequence[Mark], x_label: str, x_text: Callable[[float], str], recall: float, limit: float | None
) -> Markup:
    """Recall against a cost, both so that every step to the left or up is worth as much.

    Args:
        title: For screen readers.
        marks: What was measured; filled where nothing beats it, in a ring where chosen.
        x_label: The cost.
        x_text: How a cost is written.
        recall: The recall asked for, a line across.
        limit: The most it may cost, a line down; ``None``: nothing was asked.
    """
    costs = [mark.cost for mark in marks] + ([limit] if limit else [])
    x = svg.around(costs, LEFT, WIDTH - 12, log=True)
    y = Nines(max(0.2, *(1.15 * (1 - mark.recall) for mark in marks)), FLOOR * 0.8, BOTTOM, TOP, log=True)
    kinds = sorted({mark.kind for mark in marks})  # so that a kind looks the same on every page
    parts = [*_legend(kinds), *svg.axes(x, y, x_text, _recall)]
    parts.append(svg.text(WIDTH - 12, HEIGHT - 16, f"{x_label} (logarithmic)", "end", "label"))
    parts += _line(x.start, y(_error(recall)), x.end, y(_error(recall)))
    parts += _line(x(limit), TOP, x(limit), BOTTOM) if limit else []
    for mark in sorted(marks, key=lambda mark: (mark.front, mark.chosen)):
        parts += _drawn(mark, x(mark.cost), y(_error(mark.recall)), kinds.index(mark.kind))
    spoken = "; ".join(f"{m.kind}: recall {share(m.recall)} at {x_text(m.cost)}" for m in marks if m.front)
    return svg.image(title, f"not beaten: {spoken}", WIDTH, HEIGHT, parts)


def _error(recall: float) -> float:
    return max(1 - recall, FLOOR)


def _recall(error: float) -> str:
    """A tick's recall; the highest stands for all from there."""
    return f"{1 - error:g}" + ("+" if error < FLOOR * 1.001 else "")


def _line(x1: float, y1: float, x2: float, y2: float) -> list[Markup]:
    return [svg.line(x1, y1, x2, y2, "asked")]


def _legend(kinds: Sequence[str]) -> list[Markup]:
    parts = [svg.text(0, 14, "recall against exact search, logarithmic in what is missed", class_="label")]
    for i, kind in enumerate(kinds):
        at, height = LEFT + 6 + 88 * (i % 4), 32 + 18 * (i // 4)
        parts += [_shape(at, height - 4, 5, i, "front"), svg.text(at + 10, height, kind)]
    return parts


def _drawn(mark: Mark, x: float, y: float, kind: int) -> list[Markup]:
    shape = _shape(x, y, 4.5, kind, "front" if mark.front else "beaten")
    ring = svg.element("circle", cx=x, cy=y, r=9, class_="ring")
    return [shape, ring] if mark.chosen else [shape]


def _shape(x: float, y: float, radius: float, kind: int, class_: str) -> Markup:
    corners, turned = SHAPES[kind % len(SHAPES)]
    angles = [math.radians(turned + 360 * i / corners) for i in range(corners)]
    points = [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]
    return svg.path(points, f"mark kind-{kind % len(SHAPES)} {class_}", closed=True)
