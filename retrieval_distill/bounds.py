"""Bounds of the verbs' options, declared in their signatures: a shell shows them, and Python holds them as well.

Knows numbers; must not know any verb. Importing it is cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, ParamSpec, TypeVar, get_args

from retrieval_distill.errors import UserError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value; ``None``: there is no greatest."""

    low: float
    high: float | None = None

    def check(self, name: str, value: float) -> None:
        """Refuse a value.

        Raises:
            UserError: It is too small or too large.
        """
        if value < self.low:
            raise UserError(f"{name} is {value}, and {self.low} is the least")
        if self.high is not None and value > self.high:
            raise UserError(f"{name} is {value}, and {self.high} is the most")


Count = Annotated[int, Bounds(1)]
"""One or more."""

Multiple = Annotated[int, Bounds(0)]
"""None or more."""

Tokens = Annotated[int, Bounds(8)]
"""A limit that leaves a text some words."""

Weight = Annotated[float, Bounds(0)]
"""None or more."""

Share = Annotated[float, Bounds(0, 1)]
"""From none to all."""


def bounded(verb: Callable[P, R]) -> Callable[P, R]:
    """A verb that refuses options out of the bounds that its signature declares."""
    types = {name: globals().get(text.removesuffix(" | None")) for name, text in verb.__annotations__.items()}
    limits = {name: get_args(found)[1] for name, found in types.items() if get_args(found)}

    @wraps(verb)
    def checked(*nouns: P.args, **options: P.kwargs) -> R:
        given: dict[str, Any] = options
        for name, bounds in limits.items():
            if given.get(name) is not None:
                bounds.check(name, given[name])
        return verb(*nouns, **options)

    return checked
