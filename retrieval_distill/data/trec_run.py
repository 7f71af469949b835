"""TREC run files: a line per pair, ``query Q0 document rank score tag``, separated by spaces or tabs.

Knows the layout; must not know Runs or what a score means.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import text_files
from retrieval_distill.runtime.files import atomic

logger = logging.getLogger("retrieval_distill")

_UNFIT = re.compile(r"[ \t\n\r\v\f\0]|^$")
"""What a field cannot contain, since it would be read as two fields, or as none."""

_UNFIT_FIRST = re.compile(rf"{_UNFIT.pattern}|^\ufeff")
"""What the first field cannot contain; also a byte-order mark."""


def read(path: Path) -> pd.DataFrame:
    """The pairs in file order: ``query_id``, ``doc_id`` (strings) and ``score`` (float).

    Ranks are only used to detect lost lines: a query with a document of rank 5 has at least four others. They may start
    at 0, and be all equal, as some programs write them. An empty file causes a warning.

    Raises:
        UserError: The file cannot be read, a line is not a TREC run line, the last line is incomplete, or a query's
            ranks have a gap; the message names the line.
    """
    queries, documents, ranks, scores = list[str](), list[str](), list[float](), list[float]()
    with text_files.open_text(path, newline=None) as lines:
        for number, line in enumerate(lines, 1):
            if line[-1] != "\n":
                raise UserError(
                    f"{path}:{number}: the file ends within this line: {line[:80]!r}; it is truncated, write it again"
                )
            fields = [field for field in line[:-1].replace("\t", " ").split(" ") if field]
            try:
                query, _, document, rank, score = fields[:5]
                if len(fields) > 6 or "\0" in line:
                    raise ValueError
                ranks.append(float(rank))
                scores.append(float(score))
            except ValueError:
                raise UserError(
                    f"{path}:{number}: not a TREC run line (query Q0 document rank score tag): {line[:-1][:80]!r}"
                ) from None
            queries.append(query)
            documents.append(document)
    if not queries:
        logger.warning("%s: this run is empty: nothing was found, or the file is truncated", path)
    frame = pd.DataFrame({"query_id": queries, "doc_id": documents, "score": np.array(scores, np.float64)})
    _refuse_gaps(path, frame, np.array(ranks))
    return frame


def write(frame: pd.DataFrame, path: Path, tag: str) -> None:
    """Write pairs in order, with their ranks.

    Raises:
        UserError: An id or the tag contains white space, which separates fields; nothing is written then.
    """
    refuse_unfit(path, frame["query_id"].unique(), frame["doc_id"].unique(), tag)
    rank = frame.groupby("query_id", sort=False).cumcount() + 1
    columns: Iterable[tuple[str, str, int, float]] = zip(
        frame["query_id"].tolist(), frame["doc_id"].tolist(), rank.tolist(), frame["score"].tolist(), strict=True
    )
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        out.writelines(f"{query} Q0 {doc} {rank} {score!r} {tag}\n" for query, doc, rank, score in columns)


def refuse_unfit(path: Path, queries: Iterable[str], documents: Iterable[str], tag: str = "tag") -> None:
    """Refuse ids that a TREC run cannot hold, before any expensive work.

    Args:
        path: File of the run.
        queries: Ids of its queries, or of all queries.
        documents: Ids of its documents, or of all documents.
        tag: The run's tag.

    Raises:
        UserError: One is empty or contains white space.
    """
    fields = (("query id", queries, _UNFIT_FIRST), ("document id", documents, _UNFIT), ("tag", [tag], _UNFIT))
    for what, names, forbidden in fields:
        if unfit := [name for name in names if forbidden.search(name)]:
            raise UserError(
                f"{path}: a TREC run cannot hold {len(unfit):,} {what}s like {unfit[0]!r}, since white space separates "
                "fields; write the run as .parquet, which holds any id"
            )


def _refuse_gaps(path: Path, frame: pd.DataFrame, ranks: np.ndarray) -> None:
    """Refuse a rank that is higher than the number of its query's documents so far."""
    if (ranks == ranks[:1]).all() and len(ranks) > 1:
        return
    query = pd.factorize(frame["query_id"])[0]
    order = np.lexsort((ranks, query))
    starts = np.flatnonzero(np.diff(query[order], prepend=-1))
    first = np.repeat(starts, np.diff(np.append(starts, len(order))))
    expected = np.arange(len(order)) - first + (ranks[order][first] != 0)
    if (late := np.flatnonzero(ranks[order] > expected)).size:
        row = order[late[0]]
        raise UserError(
            f"{path}:{row + 1}: query {frame['query_id'].iloc[row]!r} has a document of rank {ranks[row]:g}, but none "
            f"of rank {expected[late[0]]}: lines of this file were lost; write it again (where documents were taken "
            "out on purpose, with new ranks)"
        )
