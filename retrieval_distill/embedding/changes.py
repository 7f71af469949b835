"""What of a corpus is embedded already: rows of old vectors matched with texts by what the texts say.

Knows hashes of texts and shards; must not know models or what a vector is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from retrieval_distill.data import columns
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.embedding.embeddings import Embeddings
from retrieval_distill.embedding.shards import Shard


@dataclass(frozen=True, eq=False)
class Changes:
    """Old vectors that stay, and the documents that have none."""

    kept: list[tuple[Shard, np.ndarray]]
    """Old shards, each with the rows of it that stay (ascending); shards of which nothing stays are left out."""
    kept_documents: np.ndarray
    """The document of every row that stays, int64 [rows]."""
    new_documents: np.ndarray
    """Documents without a vector, ascending, int64 [documents]."""
    gone: int
    """Old vectors that belong to no document any more."""
    hashes: np.ndarray
    """Of every document's text, uint64 [documents]."""


def between(old: Embeddings | None, documents: Texts) -> Changes:
    """Compare a corpus with the vectors of an earlier one (``None``: there are none).

    A vector belongs to a text, under whatever id; of texts that stand several times each has a vector of its own.
    """
    hashes = np.concatenate([np.zeros(0, np.uint64), *(text_hashes(texts.take()) for texts in parts(documents))])
    if old is None:
        none = np.zeros(0, np.int64)
        return Changes([], none, np.arange(len(documents)), 0, hashes)
    taken = taken_by(old.hashes, hashes)
    kept, stops = [], list(accumulate(shard.rows for shard in old.files))
    for shard, stop in zip(old.files, stops, strict=True):
        rows = np.flatnonzero(taken[stop - shard.rows : stop] >= 0)
        if len(rows):
            kept.append((shard, rows))
    has_vector = np.zeros(len(documents), bool)
    has_vector[taken[taken >= 0]] = True
    return Changes(kept, taken[taken >= 0], np.flatnonzero(~has_vector), int((taken < 0).sum()), hashes)


def taken_by(have: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which document takes each row: int64 [rows], -1 where none does.

    Args:
        have: The rows' hashes, uint64 [rows].
        wanted: The documents', uint64 [documents]; the k-th of a hash takes the k-th row of it.
    """
    rows, documents = np.argsort(have, kind="stable"), np.argsort(wanted, kind="stable")
    have, wanted = have[rows], wanted[documents]
    earlier = np.arange(len(have)) - np.searchsorted(have, have)
    at = np.searchsorted(wanted, have) + earlier
    found = at < len(wanted)
    found[found] = wanted[at[found]] == have[found]
    taken = np.full(len(have), -1, np.int64)
    taken[rows[found]] = documents[at[found]]
    return taken


def parts(documents: Texts) -> Iterator[Texts]:
    """A corpus in order, some thousand texts at a time."""
    for start in range(0, len(documents), columns.ROWS_PER_BATCH):
        yield Texts(documents.table.slice(start, columns.ROWS_PER_BATCH))
