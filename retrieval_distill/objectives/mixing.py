"""Reads a mix from the recipe: each part by name, with its options and its weight over time.

Knows names, options and schedules; must not know what a part computes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.objectives.schedule import Schedule

Value = float | Sequence[float] | Mapping[str, Any]
"""A weight, ``[weight at the start, at the end]``, or ``{"weight": ..., "from": ..., "until": ..., option: ...}``."""

SCHEDULE = ("weight", "from", "until")

T = TypeVar("T")


@dataclass(frozen=True)
class Part(Generic[T]):
    """A part of a mix, and its weight over time."""

    objective: T
    schedule: Schedule


def read(section: str, known: Mapping[str, type[T]], parts: Mapping[str, Value]) -> dict[str, Part[T]]:
    """Read the parts of a mix, without those whose weight is always 0.

    Args:
        section: The recipe's key, for messages.
        known: Name -> class; options are arguments of its ``__init__``.
        parts: The mix.

    Raises:
        UserError: An unknown name or option, a value out of bounds, no positive weight, or a part of the training in
            which nothing is active.
    """
    built = {name: _part(section, known, name, value) for name, value in parts.items()}
    kept = {name: part for name, part in built.items() if any(part.schedule.weight)}
    word = section.rpartition(".")[2].removesuffix("s")
    if not kept:
        raise UserError(f"{section}: at least one {word} needs a weight above 0")
    schedules = [part.schedule for part in kept.values()]
    for point in sorted({0.0, *(schedule.until for schedule in schedules)}):
        if not any(schedule.active(point) for schedule in schedules):
            raise UserError(f"{section}: none is active from {point:g} of the training on; change from and until")
    return kept


def _part(section: str, known: Mapping[str, type[T]], name: str, value: Value) -> Part[T]:
    if name not in known:
        noun = section.rpartition(".")[2].removesuffix("s")
        raise UserError(
            f"{noun} {name!r} is unknown{nearest(name, known)} (one of your own has to be registered before, which "
            "a script does: docs/guides/extend.md)"
        )
    options = dict(value) if isinstance(value, Mapping) else {"weight": value}
    schedule = {key: options.pop(key) for key in SCHEDULE if key in options}
    taken = [option for option in inspect.signature(known[name].__init__).parameters if option != "self"]
    for option in options:
        if option not in taken:
            raise UserError(f"{section}.{name}: option {option!r} is unknown{nearest(option, [*SCHEDULE, *taken])}")
    try:
        part = Part(known[name](**options), Schedule.model_validate(schedule))
    except ValidationError as error:
        problem = error.errors()[0]
        raise UserError(f"{section}.{name}.{problem['loc'][0]}: {problem['msg']} (got {problem['input']!r})") from None
    if part.schedule.begin >= part.schedule.until:
        raise UserError(f"{section}.{name}: from must be below until, or it is never active")
    return part
