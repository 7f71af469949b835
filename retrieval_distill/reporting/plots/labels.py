"""Where the names of points stand in a plot, so that none covers another name or a point.

Knows boxes; must not know what is plotted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from retrieval_distill.reporting.plots import svg

LINE = 15
"""Units between two lines of text."""

CHARACTER = 6.8
"""Units of an average character; names are short, so an average will do."""

GAP = 10
"""Units between a point and its name."""

REACH = 6
"""Lines that a name may be moved up or down; from the second on, a thin line leads to it."""


@dataclass(frozen=True)
class Box:
    """What something covers."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether two cover a common place."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether this one lies in the other."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


@dataclass(frozen=True)
class Place:
    """Where a name may stand: the end of its text that is given (``start`` or ``end``), and where that is."""

    x: float
    y: float
    end: str


@dataclass(frozen=True)
class Name:
    """A name, the class of its text, places it may take, best first, and the point that a line from afar leads to."""

    text: str
    class_: str
    places: list[Place]
    point: tuple[float, float] | None = None


def beside(x: float, y: float, left: float, right: float) -> list[Place]:
    """Places beside a point, with what reaches from it to its left and right; then higher and lower ones."""
    moves = [0, *(sign * step for step in range(1, REACH + 1) for sign in (-1, 1))]
    sides = ((x + max(GAP, right), "start"), (x - max(GAP, left), "end"))
    return [Place(at, y + LINE * move, end) for move in moves for at, end in sides]


def along(start: float, end: float, y: float) -> list[Place]:
    """Places above and below a line across."""
    return [Place(at, y + moved, side) for moved in (-LINE / 2 - 1, LINE / 2 + 1)
            for at, side in ((start + GAP, "start"), (end - GAP, "end"), ((start + end) / 2, "start"))]  # fmt: skip


def placed(names: Sequence[Name], marks: Sequence[Box], lines: Sequence[Box], frame: Box) -> list[Markup]:
    """The names, each where it covers least.

    Args:
        names: In the order in which they choose.
        marks: What must stay visible: dots.
        lines: What should stay visible: intervals.
        frame: Where names have to stay.
    """
    taken: list[Box] = []
    parts: list[Markup] = []
    for name in names:
        boxes = [_box(name.text, place) for place in name.places]
        costs = [
            1000 * sum(box.overlaps(other) for other in taken)
            + 1000 * (not box.within(frame))
            + 100 * sum(box.overlaps(mark) for mark in marks)
            + 20 * sum(box.overlaps(line) for line in lines)
            + order
            for order, box in enumerate(boxes)
        ]
        best = costs.index(min(costs))
        place = name.places[best]
        taken.append(boxes[best])
        if name.point and abs(place.y - name.point[1]) > LINE:
            parts.append(svg.line(*name.point, place.x, place.y, "leader"))
        parts.append(svg.text(place.x, place.y + 4, name.text, place.end, name.class_))
    return parts


def _box(text: str, place: Place) -> Box:
    width = CHARACTER * len(text)
    left = place.x if place.end == "start" else place.x - width
    return Box(left, place.y - LINE / 2, left + width, place.y + LINE / 2)
