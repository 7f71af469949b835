"""JSON Lines: one JSON object per line. Knows JSON; must not know what the fields mean."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from retrieval_distill.data.formats.lines import lines
from retrieval_distill.data.formats.reading import Reading, Row, TableFormat, Types


def read(path: Path, reading: Reading) -> Iterator[Row]:
    """Read one row per non-blank line."""
    for where, line in lines(path, reading):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if _SURROGATE.search(line):
                json.dumps(values, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            detail = f"lone surrogate {error.object[error.start]!a}"
            reading.bad.row(where, "text that is not Unicode", detail)
        except json.JSONDecodeError as error:
            detail = f"not valid JSON ({error.msg} at column {error.colno})"
            reading.bad.row(where, "not valid JSON", detail)
        except (
            ValueError,
            RecursionError,
        ) as error:  # a number with thousands of digits, or thousands of nested brackets
            reading.bad.row(where, "not valid JSON", f"unreadable JSON ({error})")
        else:
            yield where, values


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""The escape of a surrogate, which is text only as half of a pair."""


def write(path: Path, types: Types, rows: Iterable[Sequence[Any]]) -> None:
    """Write one object per row, without empty columns."""
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            values = {name: value for name, value in zip(types, row, strict=True) if value is not None}
            out.write(json.dumps(values, ensure_ascii=False) + "\n")


JSONL = TableFormat((".jsonl", ".ndjson"), read, write)
