"""Conditions: one boolean SQL expression over the columns of a table, checked before it runs.

DuckDB's own parser parses the text; every node must be on a list of allowed ones, and what runs is the checked syntax
tree, never the text. Knows SQL expressions; must not know files, ids or documents.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import duckdb

from retrieval_distill.errors import UserError, nearest

MAX_CHARACTERS, MAX_NESTING = 10_000, 100
"""Most characters, and nested brackets, of a condition: beyond these the parser takes minutes."""

QUOTED, SIGNS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[^()\[\]{}'"]+"""), re.compile(r"(?:[-+~!@]\s*){20}")
"""Parts without brackets, and a run of signs, on which the parser is slow too."""

TIMEOUT = 30.0
"""Longest time a condition may take."""

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "4GB",
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""Settings of the connection: nothing is spilled to disk or fetched from the network."""

TABLE, ID = "documents", "id of the document"
"""Names of the table that a condition is evaluated on, and of its column of document ids."""

PARTS = frozenset("BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION OPERATOR TYPE".split())
"""DuckDB's names of the allowed expressions: no subqueries, windows, stars or parameters."""

FUNCTIONS = frozenset(
    (
        # operators
        "+ - * / // % || ~~ !~~ ~~* !~~* ~~~ ^@ -> ->> @> <@ && like_escape ilike_escape not_like_escape "
        "not_ilike_escape "
        # text
        "lower upper lcase ucase trim ltrim rtrim length len strlen char_length contains prefix suffix starts_with "
        "ends_with instr position strpos substr substring left right concat split_part strip_accents nfc_normalize "
        "regexp_matches regexp_full_match regexp_extract "
        # numbers
        "abs sign round floor ceil ceiling trunc mod greatest least nullif if isnan isinf isfinite sqrt ln log "
        # dates
        "year month day hour minute second quarter week weekday dayofweek isodow dayofyear dayname monthname last_day "
        "date_part datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add age epoch strftime "
        "strptime try_strptime make_date make_timestamp today now current_date get_current_timestamp timezone to_years "
        "to_months to_weeks to_days to_hours to_minutes to_seconds "
        # lists, structs, maps and JSON
        "list_value list_contains list_has list_has_any list_has_all list_position array_contains array_has "
        "array_has_any array_has_all array_length cardinality list_min list_max list_sum list_extract array_extract "
        "element_at row struct_pack struct_extract map map_extract map_contains map_keys map_values json_extract "
        "json_extract_string json_extract_path json_extract_path_text json_array_length json_contains json_exists "
        "json_value json_type"
    ).split()
)
"""Allowed functions: none that reads, writes, waits, or has a result much larger than its input."""

MAX_LEVELS = 20
"""Most levels of a path such as ``meta.source.name``."""

Path = tuple[str, ...]
"""A column in a condition, or a path into it, such as ``("meta", "source")``."""


@dataclass(frozen=True)
class Condition:
    """A checked condition; ``statement`` is SQL written from the checked tree, ``paths`` its columns."""

    text: str
    statement: str
    paths: tuple[Path, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse a condition such as ``year >= 2020 AND lang = 'en'``.

        Raises:
            UserError: It is not a single expression, or uses something that is not allowed.
        """
        _refuse_unreadable(text)
        statement, found = _statement(text)
        where, expected = found[0]["node"].get("where_clause"), _statement("TRUE")[1]
        expected[0]["node"]["where_clause"] = where
        if where is None or found != expected:  # more than one condition
            raise UserError(f"{_quote(text)}: write a single condition, such as year >= 2020 AND lang = 'en'")
        return cls(text, statement, tuple(dict.fromkeys(_paths(where, text))))

    def columns(self, known: Sequence[str], table: str) -> list[str]:
        """The columns of a table that it needs.

        Args:
            known: The table's columns.
            table: The table's name, for the message.

        Raises:
            UserError: It names a column that the table lacks, or none at all.
        """
        lower = {name.lower(): name for name in known}
        has, where = f"{table} has: {', '.join(known)}", _quote(self.text)
        if not self.paths:
            raise UserError(f"{where} names no column; {has}")
        needed: dict[str, None] = {}
        for path in self.paths:
            names = path[:2] if path[0].lower() == TABLE else path[:1]
            columns = [lower[name.lower()] for name in names if name.lower() in lower]
            if not columns:
                close = nearest(names[-1], known)
                raise UserError(f"{where}: no column {names[-1]!r}{close}; {has}; put texts in single quotes")
            needed |= dict.fromkeys(columns)
        return list(needed)

    def run(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """The values of ``ID`` in the rows of ``TABLE`` that match; reads only the connection's memory.

        Raises:
            UserError: It fails on a row, or exceeds ``TIMEOUT`` or the memory limit of ``SETTINGS``.
        """
        lock(connection)
        clock = threading.Timer(TIMEOUT, connection.interrupt)
        clock.start()
        try:
            rows = connection.execute(self.statement).fetchall()
        except duckdb.InterruptException:
            raise UserError(f"{_quote(self.text)} takes longer than {TIMEOUT:.0f} s; simplify it") from None
        except duckdb.OutOfMemoryException:
            raise UserError(f"{_quote(self.text)} needs more than {SETTINGS['memory_limit']} of memory") from None
        except duckdb.Error as error:
            raise UserError(f"{_quote(self.text)}: {first_error_line(error)}") from None
        finally:
            clock.cancel()
        return [id_ for (id_,) in rows]


def connect() -> duckdb.DuckDBPyConnection:
    """A new in-memory connection with ``SETTINGS``."""
    connection = duckdb.connect(config=SETTINGS)
    connection.execute(f"SET max_expression_depth = {MAX_NESTING}")
    return connection


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on the connection reads only its own memory, and its settings stay."""
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def _quote(condition: str) -> str:
    """A condition as shown in messages."""
    return f"--where {condition if len(condition) <= 200 else condition[:200] + ' ...'!r}"


def first_error_line(error: duckdb.Error) -> str:
    """The first line of DuckDB's message."""
    return str(error).strip().splitlines()[0]


def _refuse_unreadable(condition: str) -> None:
    """Refuse a condition that is not valid text, or on which the parser would take minutes."""
    try:
        condition.encode()
    except UnicodeEncodeError:
        raise UserError("--where is not valid Unicode text: it contains a lone surrogate") from None
    if len(condition) > MAX_CHARACTERS:
        raise UserError(
            f"--where has {len(condition):,} characters; at most {MAX_CHARACTERS:,} are allowed; add a column "
            "to the table instead, and pass it with --metadata"
        )
    depths = accumulate(1 if mark in "([{" else -1 if mark in ")]}" else 0 for mark in QUOTED.sub("", condition))
    if max(depths, default=0) > MAX_NESTING or SIGNS.search(condition):
        raise UserError(f"--where: at most {MAX_NESTING} nested brackets and 20 signs in a row are allowed")


def _statement(condition: str) -> tuple[str, list[dict[str, Any]]]:
    """The statement of a condition, as SQL written from DuckDB's syntax trees, and those trees."""
    select = f'SELECT "{ID}" FROM {TABLE} WHERE (\n{condition}\n)'
    with connect() as connection:
        try:
            ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [select]).fetchall()
            found = json.loads(tree)
            if found["error"]:
                raise UserError(f"{_quote(condition)}: {found['error_message'].splitlines()[0]}")
            ((written,),) = connection.execute("SELECT json_deserialize_sql(?::JSON)", [tree]).fetchall()
        except duckdb.Error as error:
            raise UserError(f"{_quote(condition)}: {first_error_line(error)}") from None
    return written, found["statements"]


def _paths(where: dict[str, Any], condition: str) -> Iterator[Path]:
    """The columns of an expression, after a check of all its nodes.

    Raises:
        UserError: A node is not allowed.
    """
    for part in _parts(where):
        kind, function = part.get("class"), str(part.get("function_name", "")).lower()
        if kind == "COLUMN_REF":
            path = tuple(part["column_names"])
            if len(path) > MAX_LEVELS:
                raise UserError(
                    f"--where: {'.'.join(path[:3])}... has {len(path)} levels; at most {MAX_LEVELS} are allowed"
                )
            yield path
        elif kind == "FUNCTION" and function not in FUNCTIONS:
            known = nearest(function, filter(str.isidentifier, FUNCTIONS))
            raise UserError(f"{_quote(condition)}: function {function!r} is not allowed{known}")
        elif kind is not None and kind not in PARTS:
            raise UserError(
                f"{_quote(condition)}: a {str(kind).lower().replace('_', ' ')} is not allowed; compare columns with "
                "values, or search a list column with list_contains(tags, 'x')"
            )
        elif "array" in (part.get("type_name"), str(part.get("id", "")).lower()):
            raise UserError(f"{_quote(condition)}: arrays of fixed length are not allowed")


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _parts(one)
