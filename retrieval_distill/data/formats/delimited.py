"""Reads CSV and TSV, with a header that names the columns, and writes CSV.

CSV follows RFC 4180: quoted fields may contain commas, quotes and line breaks; the separator is the user's
``delimiter``, or that of a first line ``sep=;``, as spreadsheets write it, or else a comma. In TSV every tab separates
and every line feed ends a record, even within quotes: fields can contain neither, so it is not written. Knows
separators and quotes; must not know what the columns mean.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from retrieval_distill.data.columns import as_text
from retrieval_distill.data.formats.lines import MAX_CHARACTERS, lines
from retrieval_distill.data.formats.reading import Reading, Row, TableFormat, Types
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

SEPARATORS = {";": "';'", "\t": "tab", "|": "'|'", ",": "','"}
"""Separators -> value of the option."""

_SEPARATOR = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""A first line that tells spreadsheets the separator, before the header."""


def read_csv(path: Path, reading: Reading) -> Iterator[Row]:
    """One row per record, numbered by the line on which it ends."""
    return _with_names(_csv_records(path, reading), path, reading)


def read_tsv(path: Path, reading: Reading) -> Iterator[Row]:
    """One row per line."""
    return _with_names(tsv_records(path, reading), path, reading)


def tsv_records(path: Path, reading: Reading) -> Iterator[tuple[str, list[str]]]:
    """The fields of every line that is not empty."""
    for where, line in lines(path, reading):
        if line := line.rstrip("\r\n"):
            yield where, line.split("\t")


def write_csv(path: Path, types: Types, rows: Iterable[Sequence[Any]]) -> None:
    """Write all fields quoted; other values than strings as JSON, and missing ones as empty.

    Raises:
        UserError: A text contains a NUL byte, which CSV readers treat differently.
    """
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(types)
        for row in rows:
            fields = ["" if value is None else as_text(value) for value in row]
            if any("\0" in field for field in fields):
                raise UserError(f"{path}: {row[0]!r} contains a NUL byte, which CSV cannot hold; use jsonl or parquet")
            writer.writerow(fields)


def _csv_records(path: Path, reading: Reading) -> Iterator[tuple[str, list[str]]]:
    at, numbered = f"{path}:1", lines(path, reading)
    first = next(numbered, ("", ""))
    separator = _SEPARATOR.fullmatch(first[1])
    if not separator:
        numbered = chain([first], numbered)

    def texts() -> Iterator[str]:
        nonlocal at
        for where, line in numbered:
            at = where
            yield line

    csv.field_size_limit(MAX_CHARACTERS)  # process-wide; Python's limit of 131,072 is too low for texts
    delimiter = reading.options.delimiter or (separator[1] if separator else ",")
    records = csv.reader(texts(), strict=True, delimiter="\t" if delimiter == "tab" else delimiter)
    while True:
        try:
            fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            reading.bad.row(at, "not valid CSV", f"not valid CSV ({error})")
        else:
            if fields:
                yield at, fields


def _with_names(records: Iterator[tuple[str, list[str]]], path: Path, reading: Reading) -> Iterator[Row]:
    """Records with the header's names; one with more or fewer fields is a bad row."""
    _, names = next(records, ("", []))
    if len(set(names)) < len(names):
        raise UserError(f"{path}:1: two columns have the same name: {', '.join(names)}")
    if len(names) == 1 and (others := [mark for mark in SEPARATORS if mark in names[0]]):
        raise UserError(
            f"{path}:1: the header has only one column, {names[0]!r:.200}; if fields have another separator, name it "
            f"for a .csv file, with --delimiter {SEPARATORS[others[0]]}"
        )
    for where, fields in records:
        if len(fields) == len(names):
            yield where, dict(zip(names, fields, strict=True))
        else:
            reading.bad.row(where, "ragged row", f"{counted(len(fields), 'field')}, but the header has {len(names)}")


CSV = TableFormat((".csv",), read_csv, write_csv, typed=False)
TSV = TableFormat((".tsv",), read_tsv, typed=False)
