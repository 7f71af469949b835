"""The space of a search: keys of the recipe, and the values each may have.

Knows recipes, ranges and lists; must not know how the space is searched, or what a value is good for.
"""

from __future__ import annotations

import inspect
import itertools
import json
import logging
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval_distill.config import Recipe, parse_recipe
from retrieval_distill.errors import UserError, nearest

logger = logging.getLogger("retrieval_distill")

WHERE = "tune.space"

SEARCHED = (
    "compress", "embedding_teacher", "generate", "mining", "objectives", "retrieve", "student", "teacher", "training",
    "views",
)  # fmt: skip
"""Sections of a recipe that decide what the student learns."""

USUAL: dict[str, str] = {
    "training.learning_rate": "1e-5..5e-5 log",
    "training.queries_per_step": "16..64 step 16",
    "training.epochs": "3..10",
}
"""Ranges that are usually recommended for distilling a bi-encoder."""

USUAL_TEMPERATURE = "1.0..4.0"
"""The same for ``teacher_temperature`` of objectives that soften the teacher's scores, with a default of 1 or more."""

NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"\s*({NUMBER})\s*\.\.\s*({NUMBER})(?:\s+(log)|\s+step\s+({NUMBER}))?\s*")

NOTATION = "write 16..64, 0.5..2.0, 16..64 step 16, 1e-5..5e-5 log, or a list such as [16, 32]"


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``; whole ones if both are."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def whole(self) -> bool:
        """Whether its values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def between(self, share: float) -> float:
        """The value that lies so far from ``low`` to ``high``, 0 to 1."""
        ratio, width = self.high / self.low if self.log else 1.0, self.high - self.low
        value = self.low * ratio**share if self.log else self.low + width * share
        return round(value) if self.whole else self.rounded(value)

    def rounded(self, value: float) -> float:
        """A value with the digits that a person would write: three, or those of a step."""
        return min(max(float(f"{value:.{3 if self.step is None else 12}g}"), self.low), self.high)

    @property
    def points(self) -> tuple[Any, ...]:
        """What a grid tries: every step, or both ends and the middle."""
        if self.step is None:
            return tuple(dict.fromkeys((self.low, self.between(0.5), self.high)))
        steps = math.floor((self.high - self.low) / self.step + 1e-9)
        found = (self.low + i * self.step for i in range(steps + 1))
        return tuple(value if self.whole else self.rounded(value) for value in found)

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that tell whether the recipe takes any of them: the ends, and what is nothing round between them."""
        return (self.low, self.high, *(self.points[1:2] if self.step else (self.between(0.381966),)))

    def __str__(self) -> str:
        how = " log" if self.log else f" step {self.step:g}" if self.step else ""
        return f"{self.low:g}..{self.high:g}{how}"


@dataclass(frozen=True)
class Choices:
    """Values one by one, of any kind that a recipe can hold."""

    values: tuple[Any, ...]

    @property
    def points(self) -> tuple[Any, ...]:
        """What a grid tries."""
        return self.values

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that tell whether the recipe takes any of them."""
        return self.values

    def __str__(self) -> str:
        return json.dumps(self.values)


Space = dict[str, Range | Choices]
"""Key of the recipe -> its values."""


def read(recipe: Recipe) -> Space:
    """The space of a recipe's section ``tune``, or the usual one.

    Raises:
        UserError: A key does not exist or decides nothing, or a value is written wrong, stands alone, or is refused by
            the recipe.
    """
    given = recipe.tune.space
    space = {key: parse(key, values) for key, values in (usual(recipe) if given is None else given).items()}
    for key, knob in space.items():
        _check_key(recipe, key)
        for value in knob.samples:
            _check(applied(recipe, {key: value}), key, value)
    return space


def usual(recipe: Recipe) -> dict[str, str]:
    """The usually recommended ranges, without those that have no effect in this recipe."""
    from retrieval_distill.objectives import OBJECTIVES

    found = dict(USUAL)
    if recipe.training.steps is not None:
        del found["training.epochs"]
        logger.info("training.epochs is not searched: training.steps=%d decides", recipe.training.steps)
    for name in recipe.objectives:
        option = inspect.signature(OBJECTIVES[name]).parameters.get("teacher_temperature")
        if option is not None and option.default >= 1:
            found[f"objectives.{name}.teacher_temperature"] = USUAL_TEMPERATURE
    return found


def parse(key: str, values: str | Sequence[Any]) -> Range | Choices:
    """The values of a key, as :class:`retrieval_distill.config.TuneConfig` has them.

    Raises:
        UserError: They are written wrong, or there is only one.
    """
    if not isinstance(values, str):
        return Choices(_distinct(key, values))
    parts = RANGE.fullmatch(values)
    if parts is None:
        raise UserError(f"{WHERE}: {key}: {values!r} is no range and no list; {NOTATION}")
    low, high, log, step = parts.groups()
    numbers = [low, high, *([step] if step else [])]
    kind = int if all(re.fullmatch(r"[-+]?\d+", number) for number in numbers) else float
    found = Range(kind(low), kind(high), log is not None, kind(step) if step else None)
    if not found.low < found.high:
        raise UserError(f"{WHERE}: {key}: {values!r} is no range, for {low} is not below {high}; {NOTATION}")
    if found.log and found.low <= 0:
        raise UserError(f"{WHERE}: {key}: {values!r}: a range with a logarithm lies above 0")
    if found.step is not None and not 0 < found.step <= found.high - found.low:
        raise UserError(f"{WHERE}: {key}: {values!r}: a step of {step} leads from {low} to nothing up to {high}")
    return found


def applied(recipe: Recipe, settings: Mapping[str, Any]) -> Recipe:
    """The recipe, without its section ``tune``, with some of its keys set.

    Args:
        recipe: What the keys are set in.
        settings: Key -> value; of a section that stands in short, such as ``mining: hybrid`` or an objective's weight
            alone, the rest stays.

    Raises:
        UserError: A key does not exist, or a value is out of bounds.
    """
    return parse_recipe(as_values(recipe, settings), WHERE)


def as_values(recipe: Recipe, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same as plain values, as a recipe's file has them: what the recipe leaves open stays open."""
    values = recipe.model_dump(mode="json", exclude_unset=True, exclude={"tune"})
    for key, value in sorted(settings.items(), key=lambda setting: setting[0].count(".")):  # whole sections first
        section, *rest = key.split(".")
        if rest:
            values[section] = _with(values.get(section, _default(recipe, section)), section, rest, value)
        else:
            values[section] = value
    return values


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of the values that a grid tries."""
    return [
        dict(zip(space, values, strict=True)) for values in itertools.product(*(knob.points for knob in space.values()))
    ]


def _with(held: Any, path: str, rest: Sequence[str], value: Any) -> Any:
    """A section's values with one of them, or of a section in it, set."""
    if not rest:
        return value
    if isinstance(held, list) and len(held) == 1:  # a chain of one step
        return [_with(held[0], path, rest, value)]
    if held is None:
        held = {}
    elif not isinstance(held, dict):
        short = {"mining": "preset", "objectives": "weight"}.get(path.split(".")[0])
        if short is None:
            raise UserError(f"{WHERE}: {'.'.join((path, *rest))}: {path} is not a section; vary {path} as a whole")
        held = {short: held}
    first = rest[0]
    return {**held, first: _with(held.get(first), f"{path}.{first}", rest[1:], value)}


def _default(recipe: Recipe, section: str) -> Any:
    """What a section that the recipe leaves open holds, where its keys are free."""
    return recipe.model_dump(mode="json", include={section}).get(section) if section in ("objectives", "views") else {}


def _check_key(recipe: Recipe, key: str) -> None:
    section = key.split(".")[0]
    if section in Recipe.model_fields and section not in SEARCHED:
        raise UserError(f"{WHERE}: {key} does not decide what a student learns; vary keys of: {', '.join(SEARCHED)}")
    if section not in SEARCHED:
        raise UserError(f"{WHERE}: key {key!r} does not exist{nearest(section, SEARCHED)}")
    if key == "training.epochs" and recipe.training.steps is not None:
        raise UserError(f"{WHERE}: {key} has no effect beside training.steps: set training.steps=null, or vary that")
    if key == "mining.preset":
        raise UserError(f"{WHERE}: write presets as mining: [hybrid, bm25-hard]; each stands for the whole section")


def _check(recipe: Recipe, key: str, value: Any) -> None:
    """Refuse what a training would refuse."""
    from retrieval_distill.training.objective_mix import objective_mix

    try:
        objective_mix(recipe)
    except UserError as error:
        raise UserError(f"{WHERE}: {key}={value}: {error}") from None


def _distinct(key: str, values: Sequence[Any]) -> tuple[Any, ...]:
    labels = [json.dumps(value) for value in values]
    if len(set(labels)) < len(labels):
        raise UserError(f"{WHERE}: {key}: a value is there twice")
    if len(labels) < 2:
        raise UserError(f"{WHERE}: {key} has a single value: set it in the recipe, or give more")
    return tuple(values)
