"""Which column is which: the names that columns go by, and the user's own.

Names are told apart without regard to case; one with points, such as ``_source.title``, leads into objects within a
row. Knows roles, names and rows; must not know files.
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
"""Role of a column -> the names it is known by, the first that a row has is taken."""

RESERVED = {name for names in _TEXTS.values() for name in names}
"""Names that a further column cannot keep: where tables are written they are the id's, the title's and the text's."""

EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Values that say nothing."""

_ABSENT = object()


def columns(options: ReadConfig, kind: Kind) -> dict[str, tuple[str, ...]]:
    """Role -> names, with the user's in place of the known ones.

    What the user says without ``queries.`` or ``qrels.`` before it is meant for documents; a table of queries may have
    those names or the known ones.

    Raises:
        UserError: The user names a role that does not exist.
    """
    roles = {*_TEXTS, *(f"{known}.{role}" for known, names in KNOWN.items() for role in names)}
    for key in options.columns:
        if key not in roles:
            raise UserError(f"columns: {key!r} is no column's role{nearest(key, roles)}")
    chosen = dict(KNOWN[kind])
    for role, known in chosen.items():
        if own := options.columns.get(f"{kind}.{role}"):
            chosen[role] = (own,)
        elif kind != "qrels" and (own := options.columns.get(role)):
            chosen[role] = (own,) if kind == "documents" else (own, *known)
    return chosen


def text(value: Any) -> str | None:
    """An id or a text as a string: whole numbers become their digits; ``None`` for what is neither."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def number(value: Any) -> Any:
    """A string as the number that is written just so, if there is one: ``2020`` and ``0.5``, not ``007``, ``1.10``."""
    for kind in (int, float):
        with suppress(ValueError):
            if repr(found := kind(value)) == value and math.isfinite(found):
                return found
    return value


class Roles:
    """Finds what the roles of a table's columns name in its rows.

    Args:
        options: The user's names.
        kind: Of what the table is.

    Attributes:
        names: Role -> the names it may have.
        found: Role -> the column that it was found in last.
        further: The columns that hold anything and have no role, in the order in which they came.
    """

    def __init__(self, options: ReadConfig, kind: Kind) -> None:
        self.names = columns(options, kind)
        self.found: dict[str, str] = {}
        self.further: dict[str, None] = {}
        self._keys: tuple[str, ...] | None = None
        self._paths: dict[str, tuple[str, ...]] = {}
        self._rest: dict[str, str] = {}

    def values(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Role -> value; a role that the row has no column for is left out.

        Raises:
            RowError: A role's name fits two columns.
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
        """The values of the further columns of the row that :meth:`values` saw last; empty ones are left out."""
        if not self._rest:
            return {}
        for path in self._paths.values():
            if len(path) > 1:
                row = _without(row, path)
        values = {name: row[key] for key, name in self._rest.items() if row.get(key) not in EMPTY}
        self.further.update(dict.fromkeys(values))
        return values

    def told(self) -> str:
        """Which columns the roles were found in, such as ``id=_id, text=Body``."""
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
    """Where the first of these names leads that any key fits."""
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
    """The key that is the name, or is the name but for case; ``None`` also where there are no keys.

    Raises:
        RowError: Two keys are.
    """
    if not isinstance(keys, tuple | Mapping):
        return None
    if name in keys:
        return name
    alike = [key for key in keys if key.casefold() == name.casefold()]
    if len(alike) > 1:
        both = " and ".join(map(repr, alike))
        raise RowError("columns that differ in case", f"{both} differ in case alone; name one, as in columns text=NAME")
    return alike[0] if alike else None


def _within(row: Any, path: tuple[str, ...]) -> Any:
    """What a path leads to, or ``_ABSENT``."""
    for name in path:
        if (key := _key(name, row)) is None:
            return _ABSENT
        row = row[key]
    return row


def _without(row: Any, path: tuple[str, ...]) -> Any:
    """A row without what a path leads to."""
    if (key := _key(path[0], row)) is None:
        return row
    inner = {key: _without(row[key], path[1:])} if path[1:] else {}
    return {name: inner.get(name, value) for name, value in row.items() if name != key or inner}


def further(name: str, taken: Container[str]) -> str:
    """The name of a further column: its own, or, where that is reserved, one that is not taken."""
    if name.casefold() not in RESERVED:
        return name
    while name.casefold() in RESERVED or name in taken:
        name += "_"
    return name
