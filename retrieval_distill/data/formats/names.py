"""Recognises columns by their known names, or by those of the user.

Names are case-insensitive; one with dots, such as ``_source.title``, leads into nested objects of a row. Knows
roles, names and rows; must not know files.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal

from retrieval_distill.config import ReadConfig
from retrieval_distill.data.formats.reading import RowError
from retrieval_distill.errors import UserError, nearest

Kind = Literal["documents", "queries", "qrels"]

_TEXTS = {"id": ("_id", "id"), "text": ("text",), "title": ("title",)}

KNOWN: dict[Kind, dict[str, tuple[str, ...]]] = {
    "documents": _TEXTS,
    "queries": _TEXTS,
    "qrels": {
        "query": ("query-id", "query_id", "qid"),
        "document": ("corpus-id", "doc_id", "docid", "pid"),
        "score": ("score", "relevance"),
    },
}
"""Role of a column -> its known names; the first one in a row is used."""

RESERVED = {name for names in _TEXTS.values() for name in names}
"""Names that a further column cannot have, since written tables use them for id, title and text."""

EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Values that count as empty."""

_ABSENT = object()


def columns(options: ReadConfig, kind: Kind) -> dict[str, tuple[str, ...]]:
    """Role -> names, with the user's names instead of the known ones.

    Names without the prefix ``queries.`` or ``qrels.`` are for documents; a table of queries may have these names or
    the known ones.

    Raises:
        UserError: A role is unknown.
    """
    roles = {*_TEXTS, *(f"{known}.{role}" for known, names in KNOWN.items() for role in names)}
    for key in options.columns:
        if key not in roles:
            raise UserError(f"columns: role {key!r} is unknown{nearest(key, roles)}")
    chosen = dict(KNOWN[kind])
    for role, known in chosen.items():
        if own := options.columns.get(f"{kind}.{role}"):
            chosen[role] = (own,)
        elif kind != "qrels" and (own := options.columns.get(role)):
            chosen[role] = (own,) if kind == "documents" else (own, *known)
    return chosen


def text(value: Any) -> str | None:
    """An id or a text as a string; integers are converted; ``None`` for other values."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any) -> Any:
    """A string as a number if it is written exactly like one: ``2020`` and ``0.5``, but not ``007`` or ``1.10``."""
    for kind in (int, float):
        with suppress(ValueError):
            if repr(found := kind(value)) == value and math.isfinite(found):
                return found
    return value


class Roles:
    """Finds the values of roles in the rows of a table.

    Args:
        options: The user's names.
        kind: The kind of table.

    Attributes:
        names: Role -> possible names.
        found: Role -> the column in which it was last found.
        further: Non-empty columns without a role, in order of appearance.
    """

    def __init__(self, options: ReadConfig, kind: Kind) -> None:
        self.names = columns(options, kind)
        self.found: dict[str, str] = {}
        self.further: dict[str, None] = {}
        self._keys: tuple[str, ...] | None = None
        self._paths: dict[str, tuple[str, ...]] = {}
        self._rest: dict[str, str] = {}

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Role -> value, without roles that have no column in the row.

        Raises:
            RowError: A name fits two columns.
        """
        if (keys := tuple(row)) != self._keys:
            self._look_at(keys)
        values = {}
        for role, path in self._paths.items():
            if len(path) == 1:
                values[role] = row[path[0]]
            elif (value := _within(row, path)) is not _ABSENT:
                values[role] = value
        return values

    def rest(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The non-empty values of further columns, for the row last passed to :meth:`values`."""
        if not self._rest:
            return {}
        for path in self._paths.values():
            if len(path) > 1:
                row = _without(row, path)
        values = {name: row[key] for key, name in self._rest.items() if row.get(key) not in EMPTY}
        self.further.update(dict.fromkeys(values))
        return values

    def summary(self) -> str:
        """The columns of the roles, such as ``id=_id, text=Body``."""
        return ", ".join(f"{role}={column}" for role, column in self.found.items())

    def _look_at(self, keys: tuple[str, ...]) -> None:
        paths = {role: _path(names, keys) for role, names in self.names.items()}
        self._keys, self._paths = keys, {role: path for role, path in paths.items() if path}
        self.found |= {role: ".".join(path) for role, path in self._paths.items()}
        taken = {path[0] for path in self._paths.values() if len(path) == 1}
        self._rest = {}
        for key in keys:
            if key not in taken:
                self._rest[key] = further(key, {*self._rest.values(), *keys} - {key})


def _path(names: Iterable[str], keys: tuple[str, ...]) -> tuple[str, ...] | None:
    """The path of the first of these names that fits a key."""
    for name in names:
        if name in keys:
            return (name,)
    for name in names:
        if key := _key(name, keys):
            return (key,)
    for first, *others in (name.split(".") for name in names):
        if others and (key := _key(first, keys)):
            return (key, *others)
    return None


def _key(name: str, keys: Any) -> str | None:
    """The key equal to the name, or equal except for case; ``None`` if there is none.

    Raises:
        RowError: Two keys differ only in case.
    """
    if not isinstance(keys, tuple | Mapping):
        return None
    if name in keys:
        return name
    alike = [key for key in keys if key.casefold() == name.casefold()]
    if len(alike) > 1:
        both = " and ".join(map(repr, alike))
        raise RowError("columns that differ in case", f"{both} differ only in case; name one, as in columns text=NAME")
    return alike[0] if alike else None


def _within(row: Any, path: tuple[str, ...]) -> Any:
    """The value at a path, or ``_ABSENT``."""
    for name in path:
        if (key := _key(name, row)) is None:
            return _ABSENT
        row = row[key]
    return row


def _without(row: Any, path: tuple[str, ...]) -> Any:
    """A row without the value at a path."""
    if (key := _key(path[0], row)) is None:
        return row
    inner = {key: _without(row[key], path[1:])} if path[1:] else {}
    return {name: inner.get(name, value) for name, value in row.items() if name != key or inner}


def further(name: str, taken: Container[str]) -> str:
    """The name of a further column: its own or, if that is reserved, another one that is free."""
    if name.casefold() not in RESERVED:
        return name
    while name.casefold() in RESERVED or name in taken:
        name += "_"
    return name
