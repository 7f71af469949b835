"""YAML as people mean it, and no more of it than options need.

The library reads YAML 1.1, where ``010`` is 8, ``1:30`` is 90, ``no`` is false, ``1e-3`` is text, and of a key that
is there twice the last one wins. Here numbers are decimal, only ``true`` and ``false`` are truth values, and a
repeated key is refused. Source: YAML 1.2.2, section 10.3 (core schema).

Knows YAML; must not know which keys there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar

import yaml

from retrieval_distill.errors import UserError

MAX_CHARACTERS = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 100_000
"""Values of a document, those behind aliases counted each time."""


def load(text: str, where: str) -> Any:
    """The value of a YAML document; ``None`` for an empty one.

    Args:
        text: The document.
        where: Opens the message, such as the file's name.

    Raises:
        UserError: It is not YAML, repeats a key, refers to itself, or is larger or deeper than options are; the
            message names the line.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{where}: not valid YAML for options: more than {MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{where}: not valid YAML: {place}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {str(error).splitlines()[0]}") from None


def _whole_number(text: str) -> int:
    return int(text.replace("_", ""), {"0o": 8, "0x": 16}.get(text[:2], 10))


def _number(text: str) -> float:
    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


def _text(text: str) -> str:
    text.encode()  # UnicodeError, a ValueError, for half a character, which no file can hold
    return text


SCALARS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"~|null|Null|NULL|", lambda text: None),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    "int": (r"[-+]?[0-9][0-9_]*|0o[0-7]+|0x[0-9a-fA-F]+", _whole_number),
    "float": (r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", _number),
    "merge": (r"<<", str),
    "str": (r"(?s:.*)", _text),
}
"""Kind of a word that stands without quotes -> how it is told, in this order, and what it means."""


class _Loader(yaml.SafeLoader):
    """Refuses what is unclear or boundless."""

    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values: dict[int, int] = {}
        """Node -> values in it; of one that is not finished nothing."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A value; counted."""
        alias, mark = self.check_event(yaml.AliasEvent), self.peek_event().start_mark
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MAX_DEPTH} values within each other", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not alias:
            self._values[id(node)] = 1 + sum(self._values.get(id(part), MAX_VALUES) for part in _parts(node))
        if self._values.get(id(node), MAX_VALUES) >= MAX_VALUES:
            problem = f"more than {MAX_VALUES:,} values, or one that refers to itself"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping; a key stands once."""
        node = super().compose_mapping_node(anchor)
        first: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            name, line = (key.tag, str(key.value)), key.start_mark.line + 1
            if name in first:
                problem = f"the key {key.value!r} is there twice, first on line {first[name]}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            first[name] = line
        return node


def _parts(node: yaml.Node | None) -> list[yaml.Node]:
    """What stands in a value."""
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _constructor(kind: str, pattern: str, meaning: Callable[[str], Any]) -> Callable[[Any, Any], Any]:
    def construct(loader: _Loader, node: yaml.Node) -> Any:
        text = loader.construct_scalar(node)
        try:
            if re.fullmatch(pattern, text):
                return meaning(text)
        except ValueError:  # more digits than Python reads, or half a character
            pass
        raise yaml.MarkedYAMLError(problem=f"{text[:80]!r} is no {kind}", problem_mark=node.start_mark)

    return construct


for _kind, (_pattern, _meaning) in SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), None)
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _constructor(_kind, _pattern, _meaning))
_Loader.add_constructor("tag:yaml.org,2002:seq", yaml.SafeLoader.construct_yaml_seq)
_Loader.add_constructor("tag:yaml.org,2002:map", yaml.SafeLoader.construct_yaml_map)
_Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)
