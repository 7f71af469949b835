"""CSV and TSV, with a header that names the columns.

CSV is RFC 4180's: fields may be quoted, and then hold commas, quotes and line breaks. In TSV a tab separates and a
line feed ends, whatever stands between, quotes included: so it can hold neither, and it is read but not written.
Knows separators and quotes; must not know what the columns mean.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from retrieval_distill.data.formats.contract import Reading, Row, TableFormat
from retrieval_distill.data.formats.lines import MAX_CHARACTERS, lines
from retrieval_distill.errors import UserError


def read_csv(path: Path, reading: Reading) -> Iterator[Row]:
    """One row per record; a record's number is that of the line it ends on."""
    return _named(_csv_records(path, reading), path, reading)


def read_tsv(path: Path, reading: Reading) -> Iterator[Row]:
    """One row per line."""
    return _named(tsv_records(path, reading), path, reading)


def tsv_records(path: Path, reading: Reading) -> Iterator[tuple[str, list[str]]]:
    """The fields of every line that is not empty."""
    for where, line in lines(path, reading):
        if line := line.rstrip("\r\n"):
            yield where, line.split("\t")


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Every field quoted.

    Raises:
        UserError: A text has a NUL byte, which CSV readers do not agree on.
    """
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow(names)
        for row in rows:
            if any(isinstance(value, str) and "\0" in value for value in row):
                raise UserError(f"{path}: {row[0]!r} has a NUL byte, which CSV cannot hold; use jsonl or parquet")
            writer.writerow(row)


def _csv_records(path: Path, reading: Reading) -> Iterator[tuple[str, list[str]]]:
    at = f"{path}:1"

    def texts() -> Iterator[str]:
        nonlocal at
        for where, line in lines(path, reading):
            at = where
            yield line

    csv.field_size_limit(MAX_CHARACTERS)  # of the whole process; Python's own limit of 131,072 is below real texts
    records = csv.reader(texts(), strict=True)
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


def _named(records: Iterator[tuple[str, list[str]]], path: Path, reading: Reading) -> Iterator[Row]:
    """Records under the header's names; one with more or fewer fields is a bad row."""
    _, names = next(records, ("", []))
    if len(set(names)) < len(names):
        raise UserError(f"{path}:1: two columns have the same name: {', '.join(names)}")
    for where, fields in records:
        if len(fields) == len(names):
            yield where, dict(zip(names, fields, strict=True))
        else:
            reading.bad.row(where, "ragged row", f"{len(fields)} fields, but the header names {len(names)}")


CSV = TableFormat((".csv",), read_csv, write_csv)
TSV = TableFormat((".tsv",), read_tsv)
