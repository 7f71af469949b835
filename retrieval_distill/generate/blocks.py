"""Saves generated queries in small parts, so that a crash costs seconds and no paid answer.

    llm-00002-9c1f...07.parquet     queries of the way "llm" from the third block; the rest of the name is random

Parts have random names and are never rewritten, so none replaces another. If two parts hold the same document, as after
two simultaneous attempts, the first by name counts. Knows files and clocks; must not know how queries are made.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Texts
from retrieval_distill.generate.query_generator import QueriesByRow, QueryGenerator, seeded_rng
from retrieval_distill.runtime.batching import batch_by_time
from retrieval_distill.runtime.files import atomic
from retrieval_distill.runtime.progress import progress

BLOCK = 4096
"""Documents per block, over which a way forms its batches."""

SECONDS_PER_COMMIT = 15.0
"""Time between parts, and so the most that a crash costs."""

COLUMNS = ("doc_id", "number", "query", "title", "text")
"""A row per query, numbered from 1 within its document; ``title`` and ``text`` are the document as training sees it,
missing if it is unchanged. A document without queries has one row without a query."""


def generate_blocks(
    name: str, way: QueryGenerator, documents: Texts, rate: float, seed: int, folder: Path
) -> pd.DataFrame:
    """All queries of one way; those an interrupted attempt left in ``folder`` are not generated again.

    Args:
        name: Name of the way.
        way: Generates the queries.
        documents: The documents.
        rate: Queries per document; a fractional part is the share of documents that get one more.
        seed: Random seed that draws those documents.
        folder: Existing folder for the parts.

    Returns:
        The columns :data:`COLUMNS`, in the order of the documents.
    """
    starts = range(0, len(documents), BLOCK)
    known = {start: _read(folder, name, start) for start in starts}
    done = sum(found["doc_id"].nunique() for found in known.values())
    with progress(f"generating queries ({name})", len(documents), "document", done, saved_in=folder) as advance:
        for start in starts:
            block = list(documents.select(documents.ids[start : start + BLOCK]).records())
            before = set(known[start]["doc_id"])
            counts = [_count(rate, seed, name, id_) for id_, _, _ in block]
            made = way.make(block, counts, [id_ in before for id_, _, _ in block])
            for part in batch_by_time((found for found in made if found), SECONDS_PER_COMMIT):
                rows = pd.DataFrame([row for found in part for row in _rows(block, found)], columns=COLUMNS)
                _write(rows, folder, name, start)
                advance(rows["doc_id"].nunique())
    return pd.concat([_sort(_read(folder, name, start), documents) for start in starts], ignore_index=True)


def _count(rate: float, seed: int, name: str, id_: str) -> int:
    whole = int(rate)
    return whole if rate == whole else whole + int(seeded_rng(seed, name, id_, "count").random() < rate - whole)


def _rows(block: Sequence[Record], made: QueriesByRow) -> Iterator[Sequence[str | int | None]]:
    for row, queries in made.items():
        id_ = block[row][0]
        for number, query in enumerate(queries, 1):
            yield id_, number, query.text, *(query.seen or (None, None))
        if not queries:
            yield id_, 0, None, None, None


def _sort(found: pd.DataFrame, documents: Texts) -> pd.DataFrame:
    rows = documents.rows.find(found["doc_id"].tolist())
    return found.iloc[np.lexsort((found["number"], rows))]


def _read(folder: Path, name: str, start: int) -> pd.DataFrame:
    """The queries of a block so far, each document's from a single part."""
    found, known = [], set[str]()
    for path in sorted(folder.glob(f"{name}-{start // BLOCK:05d}-*.parquet")):
        part = pd.read_parquet(path)
        found.append(part[~part["doc_id"].isin(known)])
        known.update(part["doc_id"])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame([], columns=COLUMNS)


def _write(rows: pd.DataFrame, folder: Path, name: str, start: int) -> None:
    with atomic(folder / f"{name}-{start // BLOCK:05d}-{secrets.token_hex(16)}.parquet") as temporary:
        rows.to_parquet(temporary, index=False)
