"""Conditions: one boolean expression of SQL over the columns of one table, checked before anything is run.

DuckDB's own parser takes the text apart; every part has to be on a list of what a condition may hold, and the tree that
was checked is what runs, never the text. Knows SQL expressions; must not know files, ids or documents.
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

LONGEST, NESTED = 10_000, 100
"""Characters of a condition, and brackets within brackets: beyond these its parser takes minutes."""

QUOTED, SIGNS = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|[^()\[\]{}'"]+"""), re.compile(r"(?:[-+~!@]\s*){20}")
"""What holds no brackets of a condition, and a run of signs, which its parser is slow on too."""

SECONDS = 30.0
"""How long a condition may take."""

SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 2,
    "memory_limit": "4GB",
    "temp_directory": "",
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""Of the connection that a condition runs on: nothing is spilled to disk, nothing is fetched from the network."""

TABLE, ID = "documents", "id of the document"
"""Names of the table that a condition is asked of, and of the column that says which rows it holds for."""

PARTS = frozenset("BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION OPERATOR TYPE".split())
"""What a condition may be made of, as DuckDB names it; of subqueries, windows, stars and parameters it holds none."""

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
"""Functions of a condition: none that reads, writes, waits, or makes much of little."""

DEEPEST = 20
"""Names of a path such as ``meta.source.name``."""

Path = tuple[str, ...]
"""A column as a condition names it: itself, or a path into it, such as ``("meta", "source")``."""


@dataclass(frozen=True)
class Condition:
    """A condition that may be run; ``statement`` is what was checked, written out again, ``paths`` its columns."""

    text: str
    statement: str
    paths: tuple[Path, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """A condition as a person writes it, such as ``year >= 2020 AND lang = 'en'``.

        Raises:
            UserError: It is not one expression, or holds what a condition may not.
        """
        _refuse_unreadable(text)
        statement, found = _statement(text)
        where, expected = found[0]["node"].get("where_clause"), _statement("TRUE")[1]
        expected[0]["node"]["where_clause"] = where
        if where is None or found != expected:  # more than a condition was written
            raise UserError(f"{_named(text)}: write one condition, such as year >= 2020 AND lang = 'en', and no more")
        return cls(text, statement, tuple(dict.fromkeys(_paths(where, text))))

    def columns(self, known: Sequence[str], table: str) -> list[str]:
        """Which columns of a table it needs.

        Args:
            known: The table's.
            table: Its name, for the message.

        Raises:
            UserError: It names one that the table lacks, or none at all.
        """
        lower = {name.lower(): name for name in known}
        has, where = f"{table} has: {', '.join(known)}", _named(self.text)
        if not self.paths:
            raise UserError(f"{where} names no column; {has}")
        needed: dict[str, None] = {}
        for path in self.paths:
            names = path[:2] if path[0].lower() == TABLE else path[:1]
            columns = [lower[name.lower()] for name in names if name.lower() in lower]
            if not columns:
                close = nearest(names[-1], known)
                raise UserError(f"{where}: no column {names[-1]!r}{close}; {has}; texts stand in single quotes")
            needed |= dict.fromkeys(columns)
        return list(needed)

    def run(self, connection: duckdb.DuckDBPyConnection) -> list[str]:
        """The values of ``ID`` in the rows of ``TABLE`` that it holds for; nothing but the connection's memory is read.

        Raises:
            UserError: It fails on a row, or takes longer than ``SECONDS`` or more memory than ``SETTINGS`` give.
        """
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        clock = threading.Timer(SECONDS, connection.interrupt)
        clock.start()
        try:
            rows = connection.execute(self.statement).fetchall()
        except duckdb.InterruptException:
            raise UserError(f"{_named(self.text)} takes longer than {SECONDS:.0f} s; write a simpler one") from None
        except duckdb.OutOfMemoryException:
            raise UserError(f"{_named(self.text)} takes more than {SETTINGS['memory_limit']} of memory") from None
        except duckdb.Error as error:
            raise UserError(f"{_named(self.text)}: {reason(error)}") from None
        finally:
            clock.cancel()
        return [id_ for (id_,) in rows]


def connected() -> duckdb.DuckDBPyConnection:
    """A connection with ``SETTINGS`` and a memory of its own."""
    connection = duckdb.connect(config=SETTINGS)
    connection.execute(f"SET max_expression_depth = {NESTED}")
    return connection


def _named(condition: str) -> str:
    """A condition as messages show it."""
    return f"--where {condition if len(condition) <= 200 else condition[:200] + ' ...'!r}"


def reason(error: duckdb.Error) -> str:
    """What DuckDB says is wrong, in one line."""
    return str(error).strip().splitlines()[0]


def _refuse_unreadable(condition: str) -> None:
    """Refuse what is no text, and what the parser would take minutes over, whatever comes of it."""
    try:
        condition.encode()
    except UnicodeEncodeError:
        raise UserError("--where is not Unicode text: it holds half a character") from None
    if len(condition) > LONGEST:
        raise UserError(
            f"--where has {len(condition):,} characters; at most {LONGEST:,} are read: name a table with one "
            "more column by --metadata"
        )
    depths = accumulate(1 if mark in "([{" else -1 if mark in ")]}" else 0 for mark in QUOTED.sub("", condition))
    if max(depths, default=0) > NESTED or SIGNS.search(condition):
        raise UserError(f"--where: at most {NESTED} brackets stand within each other, and 20 signs in a row")


def _statement(condition: str) -> tuple[str, list[dict[str, Any]]]:
    """The statement that a condition makes (or several): written out from DuckDB's trees of it, and those trees."""
    select = f'SELECT "{ID}" FROM {TABLE} WHERE (\n{condition}\n)'
    with connected() as connection:
        try:
            ((tree,),) = connection.execute("SELECT json_serialize_sql(?)", [select]).fetchall()
            found = json.loads(tree)
            if found["error"]:
                raise UserError(f"{_named(condition)}: {found['error_message'].splitlines()[0]}")
            ((written,),) = connection.execute("SELECT json_deserialize_sql(?::JSON)", [tree]).fetchall()
        except duckdb.Error as error:
            raise UserError(f"{_named(condition)}: {reason(error)}") from None
    return written, found["statements"]


def _paths(where: dict[str, Any], condition: str) -> Iterator[Path]:
    """The columns of an expression, each of whose parts has to be one that a condition may hold.

    Raises:
        UserError: One is not.
    """
    for part in _parts(where):
        kind, function = part.get("class"), str(part.get("function_name", "")).lower()
        if kind == "COLUMN_REF":
            path = tuple(part["column_names"])
            if len(path) > DEEPEST:
                raise UserError(
                    f"--where: {'.'.join(path[:3])}... names {len(path)} levels; at most {DEEPEST} are read"
                )
            yield path
        elif kind == "FUNCTION" and function not in FUNCTIONS:
            known = nearest(function, filter(str.isidentifier, FUNCTIONS))
            raise UserError(f"{_named(condition)}: a condition has no function {function!r}{known}")
        elif kind is not None and kind not in PARTS:
            raise UserError(
                f"{_named(condition)}: a condition has no {str(kind).lower().replace('_', ' ')}; it compares columns "
                "with values, and asks a list column with list_contains(tags, 'x')"
            )
        elif "array" in (part.get("type_name"), str(part.get("id", "")).lower()):
            raise UserError(f"{_named(condition)}: a condition has no arrays of a fixed length")


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _parts(one)
