"""The further columns of documents, such as a year: what they are, and which documents a filter lets through.

A filter is a tree of comparisons, ``{"and": [...]}``, ``{"or": [...]}``, ``{"not": ...}`` or ``{"field", "op",
"value"}``. It becomes a condition of a fixed vocabulary over columns that are named by number, with every value bound:
no text of a filter is ever SQL. Knows columns, values and DuckDB; must not know HTTP or searching.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from retrieval_distill.data import metadata
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.search import conditions

Filter = Mapping[str, Any]

INTEGERS = range(-(2**63), 2**63)

MAX_PARTS, MAX_LEVELS, MAX_VALUES = 100, 10, 1000
"""Most comparisons of a filter, levels of it, and values of ``in``."""

ORDER = {"<": "<", "<=": "<=", ">": ">", ">=": ">="}
EQUAL = {"=": "=", "!=": "="}

KINDS: dict[str, tuple[pa.DataType, tuple[type, ...], tuple[str, ...]]] = {
    "integer": (pa.int64(), (int, float), (*EQUAL, *ORDER, "in")),
    "number": (pa.float64(), (int, float), (*EQUAL, *ORDER, "in")),
    "boolean": (pa.bool_(), (bool,), (*EQUAL, "in")),
    "string": (pa.large_string(), (str,), (*EQUAL, *ORDER, "in", "contains")),
    "list": (pa.list_(pa.large_string()), (str,), ("contains",)),
}
"""Type of a field -> its column, what a filter may compare it with, and how."""


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of a dataset's documents; nested ones are named with dots, such as ``meta.source``.

    Args:
        dataset: The documents.
        types: Field -> one of ``KINDS``.
        table: A locked connection, whose table has a row per document and a column per field.
    """

    dataset: Dataset
    types: dict[str, str]
    table: duckdb.DuckDBPyConnection

    @classmethod
    def of(cls, dataset: Dataset) -> Fields:
        """Those of a dataset."""
        rows = [dict(_flat(values)) for values in metadata.rows(dataset)]
        types = _types(rows)
        columns = {"row": pa.array(range(len(rows)), pa.int64())}
        for number, (name, kind) in enumerate(types.items()):
            type_ = KINDS[kind][0]
            columns[f"c{number}"] = pa.array([_cell(row.get(name), kind) for row in rows], type_)
        table = conditions.connect()
        table.register("given", pa.table(columns))
        table.execute(f"CREATE TABLE {conditions.TABLE} AS SELECT * FROM given")
        table.unregister("given")
        conditions.lock(table)
        return cls(dataset, types, table)

    def allowed(self, where: Filter) -> np.ndarray:
        """Which documents a filter lets through, bool [documents]; passages as their document.

        A document that lacks a field meets no comparison of it but ``!=``.

        Raises:
            UserError: There is no such field, it cannot be compared so, or the filter is too large.
        """
        values: list[Any] = []
        condition = self._condition(where, values, 0)
        with self.table.cursor() as cursor:
            clock = threading.Timer(conditions.TIMEOUT, cursor.interrupt)
            clock.start()
            try:
                rows = cursor.execute(f"SELECT row FROM {conditions.TABLE} WHERE {condition}", values).fetchnumpy()
            except duckdb.Error as error:
                raise UserError(f"where: {conditions.first_error_line(error)}") from None
            finally:
                clock.cancel()
        mask = np.zeros(len(self.dataset.documents), bool)
        mask[rows["row"]] = True
        return mask

    def values(self, *ids: str) -> dict[str, Any]:
        """The further columns under the first of these ids that has any: a passage's, or its document's."""
        kept = self.dataset.metadata
        found = next((id_ for id_ in ids if kept is not None and id_ in kept), None)
        if kept is None or found is None:
            return {}
        values = json.loads(kept.record(found)[1])
        return values if isinstance(values, dict) else {}

    def _condition(self, where: Filter, values: list[Any], level: int) -> str:
        if level > MAX_LEVELS:
            raise UserError(f"where: at most {MAX_LEVELS} levels of and, or and not are allowed")
        for word in ("and", "or"):
            if word in where:
                parts = [self._condition(part, values, level + 1) for part in where[word]]
                return "(" + f" {word.upper()} ".join(parts) + ")"
        if "not" in where:
            return f"(NOT {self._condition(where['not'], values, level + 1)})"
        return self._comparison(where["field"], where["op"], where["value"], values)

    def _comparison(self, field: str, op: str, value: Any, values: list[Any]) -> str:
        if field not in self.types:
            known = nearest(field, self.types) if self.types else "; these documents have no fields"
            raise UserError(f"where: no field {field!r}{known}")
        _, types, ops = KINDS[kind := self.types[field]]
        if op not in ops:
            raise UserError(f"where: {field!r} is of type {kind}, for which there is {', '.join(ops)}; not {op!r}")
        given = value if op == "in" else [value]
        if not isinstance(given, list) or len(given) > MAX_VALUES:
            raise UserError(f"where: {op!r} needs a list of at most {MAX_VALUES:,} values")
        for one in given:
            if not isinstance(one, types) or (isinstance(one, bool) and bool not in types):
                raise UserError(f"where: {field!r} is of type {kind}; compare it with such values, not {one!r:.40}")
            if isinstance(one, int) and one not in INTEGERS:
                raise UserError(f"where: a value for {field!r} is too large")
            if isinstance(one, str):
                _require_text(field, one)
        column = f"c{list(self.types).index(field)}"
        values += given
        if len(values) > MAX_VALUES + MAX_PARTS:
            raise UserError(f"where: at most {MAX_PARTS} comparisons are allowed")
        compared = {
            "in": f"{column} IN ({', '.join('?' * len(given))})" if given else "false",
            "contains": f"list_contains({column}, ?)" if kind == "list" else f"contains(lower({column}), lower(?))",
        }.get(op, f"{column} {ORDER.get(op, '=')} ?")
        return f"({'NOT ' if op == '!=' else ''}coalesce({compared}, false))"


def _require_text(field: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UserError(f"where: the value for {field!r} is not valid Unicode text") from None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value


def _types(rows: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.items():
            found.setdefault(name, set()).add(_kind(value))
    numbers = {"integer", "number"}
    return {
        name: next(iter(kinds)) if len(kinds) == 1 else "number" if kinds <= numbers else "string"
        for name, kinds in found.items()
    }


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer" if value in INTEGERS else "string"
    return "number" if isinstance(value, float) else "list" if isinstance(value, list) else "string"


def _cell(value: Any, kind: str) -> Any:
    """A value in a column of a kind."""
    if value is None or kind in ("integer", "number", "boolean"):
        return value
    if kind == "list":
        return [_text(one) for one in value]
    return _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
