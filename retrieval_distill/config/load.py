"""Reading a recipe and checking it: what is wrong is said in the user's words."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from retrieval_distill.config.recipe import Recipe
from retrieval_distill.config.section import Section
from retrieval_distill.config.teacher import NO_LIMIT, TeacherConfig
from retrieval_distill.errors import UserError, nearest

RECIPES = Path(__file__).parents[1] / "recipes"

S = TypeVar("S", bound=Section)


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or a shipped recipe by name, and apply ``key=value`` overrides.

    Args:
        path: YAML file, or the name of a shipped recipe such as ``demo``.
        overrides: Such as ``training.steps=50``; the value is YAML.

    Raises:
        UserError: The file is missing or not YAML, a key does not exist, or a value is out of bounds.
    """
    path = Path(path)
    if not path.is_file() and (RECIPES / f"{path}.yaml").is_file():
        path = RECIPES / f"{path}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(recipe.stem for recipe in RECIPES.glob("*.yaml")))
        raise UserError(f"{path}: no such recipe file; shipped recipes: {shipped}")
    values = load_values(path)
    for override in overrides:
        _apply(values, override)
    values.setdefault("name", path.stem)
    return parse_recipe(values, str(path))


def load_values(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: There is no such file, or it is not YAML or no mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values")
    return values


def parse_recipe(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Check a recipe's plain values; see :func:`parse`."""
    return parse(Recipe, values, where)


def parse_teacher(
    name: str, max_length: int | None, dtype: str, overrides: Sequence[str] = (), **options: Any
) -> TeacherConfig:
    """Check one teacher's options; see :func:`parse`. A ``max_length`` of ``None`` leaves the model's own limit."""
    limit = NO_LIMIT if max_length is None else max_length
    return parse(TeacherConfig, {"model": name, "max_length": limit, "dtype": dtype, **options}, "teacher", overrides)


def parse(schema: type[S], values: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> S:
    """Check plain values against a section's schema.

    Args:
        schema: The section.
        values: Its keys and values.
        where: Opens the message, such as the file's name.
        overrides: ``key=value`` on top of ``values``; the value is YAML.

    Raises:
        UserError: A key does not exist, or a value is out of bounds.
    """
    for override in overrides:
        _apply(values, override)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(_explain(problem, where, schema) for problem in error.errors())) from None


def configured(schema: type[S], config: S | None, options: dict[str, Any], where: str) -> S:
    """A section with keys by name on top of it; see :func:`parse`.

    Args:
        schema: The section.
        config: What the keys are put on; ``None``: the defaults.
        options: Keys and values; of a section within the section, the keys that are not given stay.
        where: Opens the message.

    Raises:
        UserError: A key does not exist, or a value is out of bounds.
    """
    if config is not None and not options:
        return config
    values = config.model_dump(exclude_unset=True) if config else {}
    for key, value in options.items():
        inner = isinstance(value, dict) and isinstance(getattr(config, key, None), Section)
        values[key] = {**values.get(key, {}), **value} if inner else value
    return parse(schema, values, where)


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override!r}: write it as key=value, for example training.steps=50")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {override!r}: the value is not valid YAML") from None
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override!r}: {parent!r} is not a section")
    values[last] = value


def _explain(problem: Any, where: str, schema: type[BaseModel]) -> str:
    """One validation problem in the user's words."""
    choices = ("dict[", "float", "tuple[", "literal[", "constrained-")  # which part of a union was tried
    at = [str(part) for part in problem["loc"] if not str(part).startswith(choices)]
    key = ".".join(at)
    if problem["type"] == "extra_forbidden":
        return f"{where}: key {key!r} does not exist{nearest(at[-1], _keys(schema, at[:-1]))}"
    got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return f"{where}: {key}: {problem['msg']}{got}"


def _keys(section: Any, path: list[str]) -> list[str]:
    """The keys of the section that a path leads to; sections may be optional, numbered in a list, or named."""
    for part in path:
        if part in section.model_fields:
            section = section.model_fields[part].annotation
            section = next((choice for choice in get_args(section) if hasattr(choice, "model_fields")), section)
    return list(getattr(section, "model_fields", ()))
