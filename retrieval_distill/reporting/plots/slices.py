"""The plot of what a search found along one of its keys: a mark per trial.

Knows shapes; must not know what was tried.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retrieval_distill.formatting import short
from retrieval_distill.reporting.plots import svg
from retrieval_distill.reporting.plots.svg import Scale

WIDTH, HEIGHT = 280, 190


@dataclass(frozen=True)
class Mark:
    """A trial: its place along the key, its measure, whether it was ended early, and whether it was chosen."""

    x: float
    y: float
    ended: bool = False
    chosen: bool = False


@dataclass(frozen=True)
class Names(Scale):
    """A scale of values that are not numbers, each at a whole one."""

    def ticks(self, count: int = 4) -> list[float]:
        """Every value."""
        return [float(i) for i in range(math.ceil(self.low), math.floor(self.high) + 1)]


def slice_(
    title: str,
    marks: Sequence[Mark],
    y_label: str,
    log: bool = False,
    names: Sequence[str] = (),
    line: Sequence[tuple[float, float]] = (),
) -> Markup:
    """The measure of every trial against one key.

    Args:
        title: The key.
        marks: The trials.
        y_label: The measure.
        log: Whether values are drawn by their logarithms.
        names: What the values 0, 1, ... are called; none: they are numbers.
        line: Marks through which a line is drawn.
    """
    y = svg.around([mark.y for mark in marks], HEIGHT - 34, 32)
    if names:
        x: Scale = Names(-0.5, len(names) - 0.5, 48, WIDTH - 12)
    else:
        around = svg.around([mark.x for mark in marks], 48, WIDTH - 12)
        lowest, highest = min(mark.x for mark in marks), max(mark.x for mark in marks)
        x = Scale(lowest / 1.05, highest * 1.05, 48, WIDTH - 12, log=True) if log else around

    def x_text(value: float) -> str:
        return names[round(value)][:12] if names else short(value)

    parts = [svg.text(0, 14, y_label, class_="label"), *svg.axes(x, y, x_text, short)]
    if line:
        parts.append(svg.path([(x(at), y(value)) for at, value in line], "curve"))
    for mark in sorted(marks, key=lambda mark: (not mark.ended, mark.chosen)):
        class_ = "strong" if mark.chosen else "plain"
        radius = 3 if mark.ended else 4
        parts.append(svg.element("circle", cx=x(mark.x), cy=y(mark.y), r=radius, class_=f"dot {class_}"))
        if mark.chosen:
            parts.append(svg.element("circle", cx=x(mark.x), cy=y(mark.y), r=8, class_="ring"))
    best = max(marks, key=lambda mark: mark.y)
    return svg.image(title, f"best {short(best.y)} at {_spoken(best, x_text)}", WIDTH, HEIGHT, parts)


def _spoken(mark: Mark, x_text: Callable[[float], str]) -> str:
    return x_text(mark.x)
