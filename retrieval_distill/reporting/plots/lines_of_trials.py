"""The plots of a search with a line for every trial: through all its settings, and over its training.

Knows shapes; must not know what was tried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retrieval_distill.formatting import short
from retrieval_distill.reporting.plots import svg
from retrieval_distill.reporting.plots.svg import Scale

WIDTH, HEIGHT = 560, 270

TOP, BOTTOM = 52, 238

NARROW, LOW = 280, 190
"""Of the curves over the training."""


@dataclass(frozen=True)
class Axis:
    """An upright axis: its label, each line's value, whether by logarithms, and names for the values 0, 1, ...."""

    label: str
    values: Sequence[float]
    log: bool = False
    names: Sequence[str] = ()

    def scale(self) -> Scale:
        """From the lowest value at the bottom to the highest at the top."""
        low, high = min(self.values), max(self.values)
        if low == high:
            low, high = (low / 2, high * 2) if self.log else (low - 0.5, high + 0.5)
        return Scale(low, high, BOTTOM, TOP, log=self.log)

    def text(self, value: float) -> str:
        """How a value is written."""
        return self.names[round(value)][:14] if self.names else short(value)


def parallel(title: str, axes: Sequence[Axis], chosen: int | None) -> Markup:
    """Parallel coordinates: one axis beside the other, a line through them for every trial.

    Args:
        title: For screen readers.
        axes: The settings and, last, what came of them, by which lines are shaded.
        chosen: Number of the line that was chosen; ``None``: none of them.
    """
    margin = 46
    step = (WIDTH - 2 * margin) / max(1, len(axes) - 1)
    scales = [axis.scale() for axis in axes]
    places = [margin + step * i for i in range(len(axes))]
    parts = []
    results = axes[-1].values
    order = sorted(range(len(results)), key=lambda line: (line == chosen, results[line]))
    better = set(order[len(order) // 2 :])
    for line in order:
        points = [(at, scale(axis.values[line])) for at, scale, axis in zip(places, scales, axes, strict=True)]
        parts.append(svg.path(points, "curve" if line == chosen else "trial better" if line in better else "trial"))
    for i, (axis, at) in enumerate(zip(axes, places, strict=True)):
        end = "start" if i == 0 else "end" if i == len(axes) - 1 else "middle"
        beside = {"start": at - 8, "middle": at, "end": at + 8}[end]
        parts.append(svg.line(at, TOP, at, BOTTOM, "axis"))
        parts.append(svg.text(beside, 16 + 16 * (i % 2), axis.label, end, "label"))
        parts += [svg.text(at, BOTTOM + 18, axis.text(min(axis.values)), "middle")]
        parts += [svg.text(at, TOP - 6, axis.text(max(axis.values)), "middle")]
    best = order[-1] if chosen is None else chosen
    spoken = ", ".join(f"{axis.label} {axis.text(axis.values[best])}" for axis in axes)
    return svg.image(title, f"{'best' if chosen is None else 'chosen'}: {spoken}", WIDTH, HEIGHT, parts)


def curves(title: str, lines: Sequence[Sequence[tuple[float, float]]], chosen: int | None, y_label: str) -> Markup:
    """A quantity over the share of the training, a line for every trial.

    Args:
        title: For screen readers.
        lines: (share, value) of every trial.
        chosen: Number of the line that was chosen; ``None``: none of them.
        y_label: The quantity.
    """
    y = svg.around([value for line in lines for _, value in line], LOW - 34, 32)
    x = Scale(0.0, 1.0, 48, NARROW - 16)
    parts = [svg.text(0, 14, y_label, class_="label"), *svg.axes(x, y, lambda share: f"{share:.0%}", short)]
    for number, line in sorted(enumerate(lines), key=lambda numbered: numbered[0] == chosen):
        points = [(x(share), y(value)) for share, value in line]
        end_x, end_y = points[-1]
        is_chosen = number == chosen
        parts.append(svg.path(points, "curve" if is_chosen else "trial better"))
        parts.append(svg.element("circle", cx=end_x, cy=end_y, r=2.5, class_="dot strong" if is_chosen else "dot"))
    highest = max(value for line in lines for _, value in line)
    return svg.image(title, f"{len(lines)} trials, the highest at {short(highest)}", NARROW, LOW, parts)
