"""What an act declares of its options - type, bounds, default, help - as its source says it, without importing it.

Signature and ``Args`` of a verb are the one place where an option is declared. Importing a verb takes a second (pandas,
pyarrow, pydantic), which help must not, so its source is parsed. Knows Python's grammar and how docstrings are written;
must not know any act or option.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import GenericAlias, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import retrieval_distill
from retrieval_distill import bounds
from retrieval_distill.bounds import Bounds
from retrieval_distill.runtime.files import CACHE

REQUIRED = inspect.Parameter.empty

KEYS = "**"
"""Name of the option that is an act's ``**options``: keys of its section of a recipe."""


@dataclass(frozen=True)
class Declared:
    """One option."""

    type: Any
    """What a shell can give, such as ``int`` or ``list[str]``; ``None``: a noun, which a command has to make."""
    bounds: Bounds | None
    default: Any
    help: str

    @classmethod
    def of(cls, annotation: Any, default: Any, help: str) -> Declared:
        """An option by its annotation, its default and the text about it."""
        return cls(*_shell_type(annotation), default, _in_a_shell(help, default))


@cache
def declared(act: str) -> dict[str, Declared]:
    """The options of an act, by name and in order.

    Args:
        act: A public verb, such as ``"retrieve"``, or a function or class by its path in the package.
    """
    module, _, name = (f"{where}.{act}" if (where := retrieval_distill.WHERE.get(act)) else act).rpartition(".")
    node: Any = next(node for node in _module(module).body if getattr(node, "name", None) == name)
    if isinstance(node, ast.ClassDef):
        return {name: Declared.of(*option) for name, *option in _fields(node)}
    texts, given = args(ast.get_docstring(node) or ""), node.args
    defaults = [None] * (len(given.args) - len(given.defaults)) + given.defaults + given.kw_defaults
    found = {
        option.arg: Declared.of(_value(option.annotation), _value(default), texts[option.arg])
        for option, default in zip(given.args + given.kwonlyargs, defaults, strict=True)
    }
    if given.kwarg:
        keys = f"{texts.get('config', '')} {texts[given.kwarg.arg]}".strip()
        found[KEYS] = Declared.of(list[str], REQUIRED, keys)
    return found


def args(docstring: str) -> dict[str, str]:
    """The texts of a docstring's ``Args`` (an act's) or ``Options`` (a command's), by name."""
    section = re.search(r"^(?:Args|Options):\n(.*?)(?=^\S|\Z)", docstring, re.S | re.M)
    _, *parts = re.split(r"^    (\w+): ", section[1] if section else "", flags=re.M)
    return {name: " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}


@cache
def _module(path: str) -> ast.Module:
    """The source of a module or package of this package."""
    place = Path(retrieval_distill.__file__).parent.joinpath(*path.split("."))
    return ast.parse((place / "__init__.py" if place.is_dir() else place.with_suffix(".py")).read_bytes())


def _fields(node: ast.ClassDef) -> Iterator[tuple[Any, ...]]:
    """Name, annotation, default of a class's fields, and the text below each."""
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            told = " ".join(str(text.value.value).split())
            yield ast.unparse(field.target), _value(field.annotation), _value(field.value), told


PLAIN = (Path, bool, float, int, str)
"""Types of which a shell can give a value."""


class _Names(dict[str, Any]):
    """What names in a signature stand for; a noun stands for a class of its name."""

    def __missing__(self, name: str) -> Any:
        return type(name, (), {})


NAMES = _Names(
    vars(bounds) | {kind.__name__: kind for kind in (*PLAIN, dict, tuple, Mapping, Sequence)},
    CACHE=CACHE, Field=lambda default=None, **_: default, Literal=Literal, Model=str,
)  # fmt: skip


def _value(node: ast.expr | None) -> Any:
    return REQUIRED if node is None else eval(compile(ast.Expression(node), "<signature>", "eval"), {}, NAMES)


def _shell_type(annotation: Any) -> tuple[Any, Bounds | None]:
    """The type of which a shell can give a value, and its bounds."""
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for choice in choices:
        if get_origin(choice) is Annotated:
            return get_args(choice)
        if get_origin(choice) in (list, Sequence) and get_args(choice)[0] in PLAIN:
            return GenericAlias(list, get_args(choice)), None
    return next((kind for kind in PLAIN if kind in choices), None), None


def _in_a_shell(text: str, default: Any) -> str:
    """A text about an option as the user of a shell reads it: without what only Python can say."""
    text = re.sub(r"; in Python [^.;]*", "", text)
    if default is None:
        text = text.replace(". ``None``:", ". If not given:").replace("``None``:", "if not given:")
    else:
        text = re.sub(r"[;.,] ``None``[^:]*:[^.;]*", "", text)
    return re.sub(r'="([^"]*)"', r"=\1", re.sub(r'``"([^"`]*)"``', r"\1", text)).replace("``", "")
