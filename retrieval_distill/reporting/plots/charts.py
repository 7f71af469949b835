"""The plots of a report: numbers in, one accessible SVG out.

Knows shapes of plots; must not know runs, systems or measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from retrieval_distill.formatting import counted, number, rise, share, short
from retrieval_distill.reporting.plots import labels, svg
from retrieval_distill.reporting.plots.labels import LINE, Box, Name
from retrieval_distill.reporting.plots.svg import Scale

WIDTH, SMALL = 400, 280
"""Units across a plot and a small one: about the pixels it has on a phone, so that its text stays legible there."""

RADIUS = 5
"""Units of a dot."""

BESIDE = 8
"""Units between two points of equal cost."""


@dataclass(frozen=True)
class Point:
    """A value of quality at a cost, each with its interval; without a cost (``None``) it is a line across."""

    label: str
    x: float | None
    y: float
    low: float
    high: float
    strong: bool = False
    x_low: float | None = None
    x_high: float | None = None


def scatter(title: str, points: Sequence[Point], x_label: str, y_label: str, x_text: Callable[[float], str]) -> Markup:
    """Quality against cost on a logarithmic axis, with their intervals; a line joins what nothing beats in both.

    Points of equal cost stand side by side.
    """
    placed = [point for point in points if point.x is not None]
    costs = [cost for point in placed for cost in (point.x, point.x_low, point.x_high) if cost is not None]
    x = svg.around(costs, 44, WIDTH - 12, log=True)
    y = svg.around([value for point in points for value in (point.low, point.high)], 246, 30)
    parts = [*svg.axes(x, y, x_text, short), svg.text(0, 14, y_label, class_="label")]
    parts.append(svg.text(WIDTH - 12, 284, x_label, "end", "label"))
    parts += [svg.line(x.start, y(p.y), x.end, y(p.y), "reference") for p in points if p.x is None]
    at = dict(zip(placed, _side_by_side([x(point.x or 0) for point in placed]), strict=True))
    parts.append(svg.path([(at[point], y(point.y)) for point in frontier(placed)], "frontier"))
    for point in placed:
        parts += _marked(point, at[point], x, y)
    parts += _labels(points, at, x, y)
    return svg.image(title, "; ".join(_spoken(point, x_text) for point in points), WIDTH, 292, parts)


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in quality at the same cost or less, cheapest first."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda point: (point.x, -point.y)):
        if not kept or point.y > kept[-1].y:
            kept.append(point)
    return kept


def _side_by_side(places: Sequence[float]) -> list[float]:
    """Places of points, those that would hide each other moved apart."""
    moved = list(places)
    for place in dict.fromkeys(places):
        same = [i for i, other in enumerate(places) if other == place]
        for turn, i in enumerate(same):
            moved[i] = place + BESIDE * (turn - (len(same) - 1) / 2)
    return moved


def _marked(point: Point, at: float, x: Scale, y: Scale) -> list[Markup]:
    class_ = "strong" if point.strong else "plain"
    parts = [svg.line(at, y(point.low), at, y(point.high), f"whisker {class_}")]
    if point.x_low is not None and point.x_high is not None:
        parts.append(svg.line(x(point.x_low), y(point.y), x(point.x_high), y(point.y), f"whisker {class_}"))
    return [*parts, svg.element("circle", cx=at, cy=y(point.y), r=RADIUS, class_=f"dot {class_}")]


def _labels(points: Sequence[Point], at: Mapping[Point, float], x: Scale, y: Scale) -> list[Markup]:
    """Names beside the points, and above the lines of those without a cost."""
    marks = [Box(at[p] - RADIUS, y(p.y) - RADIUS, at[p] + RADIUS, y(p.y) + RADIUS) for p in at]
    whiskers = [Box(at[p] - 1, y(p.high), at[p] + 1, y(p.low)) for p in at]
    frame = Box(x.start, y.end - LINE, x.end + 12, y.start)
    whiskers += [Box(x(p.x_low), y(p.y) - 1, x(p.x_high), y(p.y) + 1) for p in at if p.x_low and p.x_high]
    names = []
    for p in points:
        if p in at:
            left, right = (abs(at[p] - x(end)) + 4 if end else 0.0 for end in (p.x_low, p.x_high))
            places = labels.beside(at[p], y(p.y), left, right)
            names.append(Name(p.label, "strong" if p.strong else "plain", places, (at[p], y(p.y))))
        else:
            names.append(Name(f"{p.label}, cost not measured", "label", labels.along(x.start, x.end, y(p.y))))
    return labels.placed(sorted(names, key=lambda name: name.class_ != "strong"), marks, whiskers, frame)


def _spoken(point: Point, x_text: Callable[[float], str]) -> str:
    cost = "no cost measured" if point.x is None else x_text(point.x)
    return f"{point.label}: {number(point.y)} ({number(point.low)} to {number(point.high)}), {cost}"


def bars(title: str, rows: Sequence[tuple[str, float]], text: Callable[[float], str]) -> Markup:
    """A bar per row, from 0, its value beside it."""
    left = 8 + 7 * max(len(label) for label, _ in rows)
    x = Scale(0, max(value for _, value in rows) or 1, left, WIDTH - 86)
    parts = []
    for i, (label, value) in enumerate(rows):
        top = 4 + 24 * i
        parts += [
            svg.text(left - 8, top + 13, label, "end"),
            svg.element("rect", x=left, y=top, width=max(x(value) - left, 1.0), height=17, class_="bar"),
            svg.text(max(x(value), left + 1.0) + 6, top + 13, text(value)),
        ]
    spoken = "; ".join(f"{label}: {text(value)}" for label, value in rows)
    return svg.image(title, spoken, WIDTH, 4 + 24 * len(rows), parts)


def lines(
    title: str, points: Sequence[tuple[float, float]], band: Sequence[tuple[float, float, float]], x_label: str
) -> Markup:
    """One quantity over the training, its last value beside the title; ``band`` is (x, low, high) of an interval."""
    xs, ys = zip(*points, strict=True)
    x = Scale(0, max(xs), 48, SMALL - 10)
    y = svg.around([*ys, *(bound for _, *bounds in band for bound in bounds)], 118, 32)
    edge = [*((at, low) for at, low, _ in band), *((at, high) for at, _, high in reversed(band))]
    parts = [
        svg.text(0, 14, title, class_="name"),
        svg.text(SMALL - 10, 14, short(ys[-1]), "end", "name strong"),
        *svg.axes(x, y, short, short),
        svg.path([(x(at), y(value)) for at, value in edge], "area band", closed=True) if band else "",
        svg.path([(x(at), y(value)) for at, value in points], "curve"),
        svg.element("circle", cx=x(xs[-1]), cy=y(ys[-1]), r=3, class_="dot strong"),
        svg.text(SMALL - 10, 150, x_label, "end", "label"),
    ]
    spoken = f"from {short(ys[0])} to {short(ys[-1])}, lowest {short(min(ys))}, highest {short(max(ys))}"
    return svg.image(title, f"{spoken}, over {short(max(xs))} {x_label}s", SMALL, 156, parts)


def histogram(title: str, edges: np.ndarray, series: Mapping[str, np.ndarray], x_label: str) -> Markup:
    """The share of each series (its name: counts, one per bin) that falls into each bin, the series overlaid."""
    heights_of = {name: counts / max(counts.sum(), 1) for name, counts in series.items()}
    x = Scale(float(edges[0]), float(edges[-1]), 44, WIDTH - 12)
    y = Scale(0, max(float(heights.max()) for heights in heights_of.values()) * 1.05 or 1, 236, 40)
    parts = svg.axes(x, y, short, share)
    for i, (name, heights) in enumerate(heights_of.items()):
        tops = [(x(edge), y(value)) for j, value in enumerate(heights) for edge in edges[j : j + 2]]
        parts.append(svg.path([(x.start, y.start), *tops, (x.end, y.start)], f"area series-{i}", closed=True))
        parts.append(svg.element("rect", x=44 + 150 * i, y=6, width=12, height=12, class_=f"area series-{i}"))
        parts.append(svg.text(62 + 150 * i, 16, name))
    parts.append(svg.text(WIDTH - 12, 274, x_label, "end", "label"))
    middles = (edges[:-1] + edges[1:]) / 2
    spoken = "; ".join(f"{name}: most often near {short(middles[h.argmax()])}" for name, h in heights_of.items())
    return svg.image(title, spoken, WIDTH, 282, parts)


def waterfall(title: str, values: Sequence[float], ours: str, theirs: str, y_label: str) -> Markup:
    """Differences query by query, the largest win first: what a mean hides.

    Args:
        title: For screen readers.
        values: A difference per query.
        ours: The system that wins where a difference is above 0.
        theirs: The other one.
        y_label: What is subtracted.
    """
    falling = np.sort(np.asarray(values, float))[::-1]
    won, lost = int((falling > 0).sum()), int((falling < 0).sum())
    x, reach = Scale(0, len(falling), 44, WIDTH - 12), max(float(np.abs(falling).max()), 1e-9)
    y = Scale(-reach, reach, 246, 30)
    parts = [svg.text(0, 14, y_label, class_="label")]
    for tick in y.ticks():
        parts += [svg.line(x.start, y(tick), x.end, y(tick), "grid"), svg.text(38, y(tick) + 4, rise(tick), "end")]
    first_loss = len(falling) - lost
    for class_, start, part in (("win", 0, falling[:won]), ("loss", first_loss, falling[first_loss:])):
        steps = [(x(i + start + side), y(value)) for i, value in _steps(part) for side in (0, 1)]
        if steps:
            ends = (steps[0][0], y(0)), (steps[-1][0], y(0))
            parts.append(svg.path([ends[0], *steps, ends[1]], f"area {class_}", closed=True))
    parts.append(svg.line(x.start, y(0), x.end, y(0), "axis"))
    parts.append(svg.text(x.start + 8, y(0) + 18, f"{won} won by {ours}", class_="win"))
    parts.append(svg.text(x.end, y(0) - 8, f"{lost} won by {theirs}", "end", "loss"))
    tied = first_loss - won
    asked = counted(len(falling), "query")
    parts.append(svg.text((x.start + x.end) / 2, 266, f"{asked}, {tied} equal", "middle", "label"))
    spoken = f"of {asked} {won} won by {ours}, {lost} won by {theirs}, {tied} equal"
    return svg.image(title, spoken, WIDTH, 274, parts)


def _steps(values: np.ndarray) -> list[tuple[int, float]]:
    """(place, value) of every value, or of as many as a plot can show apart."""
    stride = max(1, len(values) // (2 * WIDTH))
    return [(i, float(values[i])) for i in range(0, len(values), stride)]
