"""Reading a recipe and checking it: what is wrong is said in the user's words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from retrieval_distill.config import plain_yaml
from retrieval_distill.config.endpoint import SECRET
from retrieval_distill.config.recipe import Recipe
from retrieval_distill.config.section import Section
from retrieval_distill.config.teacher import TeacherConfig
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime import text_files

RECIPES = Path(__file__).parents[1] / "recipes"


def shipped() -> dict[str, Path]:
    """The recipes that ship with the package, by name, such as ``demo`` or ``zoo/scifact``."""
    return {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in sorted(RECIPES.rglob("*.yaml"))}


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
    if not path.is_file():
        known = shipped()
        if path.as_posix() not in known:
            raise UserError(f"{path}: no such recipe file; shipped recipes: {', '.join(known)}")
        path = known[path.as_posix()]
    return parse(Recipe, {"name": path.stem, **load_values(path)}, str(path), overrides)


def load_values(path: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: There is no such file, or it is not YAML or no mapping.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    values = plain_yaml.load(text_files.read_text(path), str(path))
    if not isinstance(values, dict | None) or not all(isinstance(key, str) for key in values or ()):
        raise UserError(f"{path}: expected a mapping of keys to values")
    return values or {}


def parse_recipe(values: dict[str, Any], where: str = "recipe") -> Recipe:
    """Check a recipe's plain values; see :func:`parse`."""
    return parse(Recipe, values, where)


def parse_teacher(
    name: str, max_length: int | None, dtype: str, overrides: Sequence[str] = (), **options: Any
) -> TeacherConfig:
    """Check one teacher's options; see :func:`parse`."""
    return parse(
        TeacherConfig, {"model": name, "max_length": max_length, "dtype": dtype, **options}, "teacher", overrides
    )


def parse(schema: type[S], values: dict[str, Any], where: str, overrides: Sequence[str] = ()) -> S:
    """Check plain values against a section's schema.

    Args:
        schema: The section.
        values: Its keys and values.
        where: Opens the message, such as the file's name.
        overrides: ``key=value`` on top of ``values``; the value is YAML, but stands as it is where a text is wanted.
            A mistake in one opens the message with the option: ``where`` if that is one, else ``--set``.

    Raises:
        UserError: A key does not exist, or a value is out of bounds.
    """
    option = where if where.startswith("--") else "--set"
    given = {tuple(text.partition("=")[0].split(".")): f"{option} {text!r}" for text in overrides}
    values = deepcopy(values)
    for override in overrides:
        _apply(values, override, option, schema)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError("\n".join(_explain(problem, where, given, schema) for problem in error.errors())) from None


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


def _apply(values: dict[str, Any], override: str, option: str, schema: type[BaseModel]) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"{option} {override!r}: write it as key=value, for example training.steps=50")
    *parents, last = key.split(".")
    value = _value(text, f"{option} {override!r}", _annotation(schema, [*parents, last]))
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise UserError(f"{option} {override!r}: {parent!r} is not a section")
    values[last] = value


def _value(text: str, where: str, annotation: Any) -> Any:
    """What an override's value means: where a text is wanted, itself, unless it is empty, ``null`` or in quotes."""
    word = text.strip()
    says_nothing = re.fullmatch(plain_yaml.SCALARS["null"][0], word)
    if annotation in (str, str | None) and not says_nothing and word[0] not in "'\"":
        return text
    return plain_yaml.load(text, where)


def _explain(problem: Any, where: str, given: dict[tuple[str, ...], str], schema: type[BaseModel]) -> str:
    """One validation problem in the user's words."""
    choices = ("dict[", "float", "tuple[", "literal[", "constrained-")  # which part of a union was tried
    at = [str(part) for part in problem["loc"] if not str(part).startswith(choices)]
    unknown, key = problem["type"] == "extra_forbidden", ".".join(at)
    for path, option in given.items():
        if tuple(at[: len(path)]) == path or (unknown and tuple(at) == path[: len(at)]):
            where = option
    if unknown:
        return f"{where}: key {key!r} does not exist{nearest(at[-1], _keys(schema, at[:-1]))}"
    got = "" if isinstance(problem["input"], dict) or problem["type"] == SECRET else f" (got {problem['input']!r:.200})"
    return f"{where}: {key}: {problem['msg']}{got}"


def _keys(schema: type[BaseModel], path: list[str]) -> list[str]:
    """The keys of the section that a path leads to."""
    return list(getattr(_section(_annotation(schema, path)), "model_fields", ()))


def _annotation(schema: Any, path: Sequence[str]) -> Any:
    """The type of what a path leads to; sections may be optional, numbered in a list, or named."""
    found: Any = schema
    for part in path:
        section = _section(found)
        fields = getattr(section, "model_fields", {})
        found = fields[part].annotation if part in fields else section
    return found


def _section(annotation: Any) -> Any:
    """The section that a value of this type is or holds."""
    return next((choice for choice in get_args(annotation) if hasattr(choice, "model_fields")), annotation)
