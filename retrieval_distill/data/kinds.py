"""Kinds of files that verbs write, told by their beginning, without importing what writes them.

Knows names of columns and marks; must not know what is in the rest of a file.
"""

from __future__ import annotations

import json
from pathlib import Path


def is_run(path: Path) -> bool:
    """Whether a file holds a Run."""
    if path.suffix == ".parquet":
        return {"query_id", "doc_id", "score"} <= columns(path)
    try:
        return len([float(field) for field in _first_line(path).split()[3:5]]) == 2
    except ValueError:
        return False


def columns(path: Path) -> set[str]:
    """The columns of a table: Parquet, JSON lines or CSV; none if it is no table."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return set(pq.read_schema(path).names)
        except (pa.ArrowException, OSError):
            return set()
    line = _first_line(path)
    try:
        return set(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return {name.strip('" ') for name in line.split(",")}


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(1 << 20).decode("utf-8", "replace")


def is_page(path: Path) -> bool:
    """Whether a file is a report's page."""
    with path.open("rb") as file:
        return b"retrieval-distill" in file.read(4096)


def is_measures(path: Path) -> bool:
    """Whether a file holds measures of systems by name, as JSON."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(isinstance(system, dict) for system in found.values())


def is_scores(path: Path) -> bool:
    """Whether a file holds scores of pairs of texts."""
    return {"query", "document", "score"} <= columns(path)
