"""What every plot is made of: elements, scales and axes of an SVG that needs no script, file or font.

Colours are classes that the page's style sheet fills, so plots follow light and dark; text is text. Knows coordinates;
must not know what is plotted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from markupsafe import Markup, escape


def element(tag: str, *content: str, **attributes: object) -> Markup:
    """An element; text and attributes are escaped unless they are Markup, ``_`` in a name stands for ``-``."""
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    shown = Markup("").join(Markup(' {}="{}"').format(name, coordinate(value)) for name, value in named.items())
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), shown, Markup("").join(map(escape, content)))


def coordinate(value: object) -> object:
    """Numbers at a hundredth of a unit, which no eye can tell; other values as they are."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def image(title: str, description: str, width: float, height: float, parts: Sequence[str]) -> Markup:
    """A whole picture, as wide as its place; ``title`` and ``description`` are what a screen reader says."""
    mark = "svg-" + sha256(f"{title}\0{description}".encode()).hexdigest()[:12]
    spoken = (element("title", title, id=f"{mark}-t"), element("desc", description, id=f"{mark}-d"))
    return element(
        "svg", *spoken, *parts,
        viewBox=f"0 0 {coordinate(width)} {coordinate(height)}", role="img",
        aria_labelledby=f"{mark}-t {mark}-d", xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip


def text(x: float, y: float, content: str, anchor: str = "start", class_: str | None = None) -> Markup:
    """A line of text whose baseline is at ``y``; ``anchor`` is ``start``, ``middle`` or ``end``."""
    return element("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, closed: bool = False) -> Markup:
    """A line through points, or (``closed``) the area they enclose."""
    drawn = "L".join(f"{coordinate(float(x))} {coordinate(float(y))}" for x, y in points)
    return element("path", d=f"M{drawn}{'Z' if closed else ''}", class_=class_)


@dataclass(frozen=True)
class Scale:
    """A map from values ``low..high`` to units ``start..end`` of the picture; ``log`` for values above 0."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, count: int = 4) -> list[float]:
        """About ``count`` round values within the scale."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            within = [
                [m * 10.0**p for p in powers for m in steps]
                for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))
            ]
            kept = [[tick for tick in ticks if self.low <= tick <= self.high] for ticks in within]
            return next((ticks for ticks in kept if len(ticks) <= count + 1), kept[-1])
        raw = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m for m in (1, 2, 2.5, 5, 10) if m * power >= raw * (1 - 1e-9)) * power
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(tick * step, 12) for tick in range(first, last + 1)]


def around(values: Sequence[float], start: float, end: float, log: bool = False, zero: bool = False) -> Scale:
    """A scale over these values with a margin of a twentieth at both ends; ``zero`` begins at 0 instead."""
    low, high = min(values), max(values)
    if log:
        margin = max((high / low) ** 0.12, 1.5)
        return Scale(low / margin, high * margin, start, end, log=True)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Scale(0.0 if zero else low - margin, high + margin, start, end)


def axes(x: Scale, y: Scale, x_text: Callable[[float], str], y_text: Callable[[float], str]) -> list[Markup]:
    """Ticks with their values on both axes, and faint lines across at those of ``y``."""
    left, right, bottom = x.start, x.end, y.start
    parts = [line(left, bottom, right, bottom, "axis")]
    for tick in y.ticks():
        parts += [line(left, y(tick), right, y(tick), "grid"), text(left - 6, y(tick) + 4, y_text(tick), "end")]
    for tick in x.ticks():
        at = x(tick)
        parts += [line(at, bottom, at, bottom + 4, "axis"), text(at, bottom + 17, x_text(tick), "middle")]
    return parts
