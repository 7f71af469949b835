"""Which column is which: the names that columns go by, and the user's own.

Knows roles and names; must not know files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from retrieval_distill.config import ReadConfig
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


def value(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """The value under the first of these names that the row has, else ``None``."""
    return next((row[name] for name in names if name in row), None)
