"""Queries kept as they are made: parts of a block of documents, so that a crash costs seconds and no paid answer.

    llm-00002-9c1f...07.parquet     queries of the way "llm" from the third block; the rest of the name is drawn

No part is ever written again or counted, so none replaces another, whatever is missing. A document counts once: where
two parts hold it, as after two attempts at once, its queries are those of the first by name. Knows files and clocks;
must not know how queries are made.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Texts
from retrieval_distill.generate.contract import Made, Way, dice
from retrieval_distill.runtime.batching import batch_by_time
from retrieval_distill.runtime.files import atomic
from retrieval_distill.runtime.progress import progress

BLOCK = 4096
"""Documents that a way lays its batches over."""

SECONDS_PER_COMMIT = 15.0
"""Time between parts: the most that a crash costs."""

COLUMNS = ("doc_id", "number", "query", "title", "text")
"""A row per query, numbered from 1 within its document; ``title`` and ``text`` are what training sees of the document,
missing where that is the document as it stands. A document without any has a row without a query."""


def make(name: str, way: Way, documents: Texts, rate: float, seed: int, folder: Path) -> pd.DataFrame:
    """All queries of one way; what an interrupted attempt left in ``folder`` is not made again.

    Args:
        name: The way's.
        way: What makes them.
        documents: What they are made from.
        rate: Queries of a document; what is left over a whole number is the share of documents that get one more.
        seed: Draws those documents.
        folder: Exists; keeps the parts.

    Returns:
        The columns :data:`COLUMNS`, in the order of the documents.
    """
    starts = range(0, len(documents), BLOCK)
    known = {start: _read(folder, name, start) for start in starts}
    done = sum(found["doc_id"].nunique() for found in known.values())
    with progress(f"making queries ({name})", len(documents), "documents", done, saved_in=folder) as advance:
        for start in starts:
            block = list(documents.select(documents.ids[start : start + BLOCK]).records())
            before = set(known[start]["doc_id"])
            counts = [_count(rate, seed, name, id_) for id_, _, _ in block]
            made = way.make(block, counts, [id_ in before for id_, _, _ in block])
            for part in batch_by_time((found for found in made if found), SECONDS_PER_COMMIT):
                rows = pd.DataFrame([row for found in part for row in _rows(block, found)], columns=COLUMNS)
                _write(rows, folder, name, start)
                advance(rows["doc_id"].nunique())
    return pd.concat([_ordered(_read(folder, name, start), documents) for start in starts], ignore_index=True)


def _count(rate: float, seed: int, name: str, id_: str) -> int:
    whole = int(rate)
    return whole if rate == whole else whole + int(dice(seed, name, id_, "count").random() < rate - whole)


def _rows(block: Sequence[Record], made: Made) -> Iterator[Sequence[str | int | None]]:
    for row, queries in made.items():
        id_ = block[row][0]
        for number, query in enumerate(queries, 1):
            yield id_, number, query.text, *(query.seen or (None, None))
        if not queries:
            yield id_, 0, None, None, None


def _ordered(found: pd.DataFrame, documents: Texts) -> pd.DataFrame:
    rows = documents.rows.find(found["doc_id"].tolist())
    return found.iloc[np.lexsort((found["number"], rows))]


def _read(folder: Path, name: str, start: int) -> pd.DataFrame:
    """The queries of a block so far, each document's from one part."""
    found, known = [], set[str]()
    for path in sorted(folder.glob(f"{name}-{start // BLOCK:05d}-*.parquet")):
        part = pd.read_parquet(path)
        found.append(part[~part["doc_id"].isin(known)])
        known.update(part["doc_id"])
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame([], columns=COLUMNS)


def _write(rows: pd.DataFrame, folder: Path, name: str, start: int) -> None:
    with atomic(folder / f"{name}-{start // BLOCK:05d}-{secrets.token_hex(16)}.parquet") as temporary:
        rows.to_parquet(temporary, index=False)
