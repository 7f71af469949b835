"""Matches stored vectors to the current documents, by the hashes of their texts.

Knows text hashes and shards; must not know models or what a vector is.
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
    """Old vectors to keep, and the documents that have none yet."""

    kept: list[tuple[Shard, np.ndarray]]
    """Old shards with the rows to keep (ascending); shards without any are left out."""
    kept_documents: np.ndarray
    """The document of every kept row, int64 [rows]."""
    new_documents: np.ndarray
    """Documents without a vector, ascending, int64 [documents]."""
    gone: int
    """Number of old vectors that no longer belong to a document."""
    hashes: np.ndarray
    """Hash of every document's text, uint64 [documents]."""


def compare(old: Embeddings | None, documents: Texts) -> Changes:
    """Compare a corpus with the vectors of an earlier one (``None``: there are none).

    A vector belongs to a text, whatever its id; a text that occurs several times has as many vectors.
    """
    hashes = np.concatenate([np.zeros(0, np.uint64), *(text_hashes(texts.take()) for texts in parts(documents))])
    if old is None:
        none = np.zeros(0, np.int64)
        return Changes([], none, np.arange(len(documents)), 0, hashes)
    matches = match_rows(old.hashes, hashes)
    kept, stops = [], list(accumulate(shard.rows for shard in old.files))
    for shard, stop in zip(old.files, stops, strict=True):
        rows = np.flatnonzero(matches[stop - shard.rows : stop] >= 0)
        if len(rows):
            kept.append((shard, rows))
    has_vector = np.zeros(len(documents), bool)
    has_vector[matches[matches >= 0]] = True
    return Changes(kept, matches[matches >= 0], np.flatnonzero(~has_vector), int((matches < 0).sum()), hashes)


def match_rows(have: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The document that matches each row: int64 [rows], -1 without a match.

    Args:
        have: Hashes of the rows, uint64 [rows].
        wanted: Hashes of the documents, uint64 [documents]; the k-th document of a hash matches its k-th row.
    """
    rows, documents = np.argsort(have, kind="stable"), np.argsort(wanted, kind="stable")
    have, wanted = have[rows], wanted[documents]
    earlier = np.arange(len(have)) - np.searchsorted(have, have)
    at = np.searchsorted(wanted, have) + earlier
    found = at < len(wanted)
    found[found] = wanted[at[found]] == have[found]
    matches = np.full(len(have), -1, np.int64)
    matches[rows[found]] = documents[at[found]]
    return matches


def parts(documents: Texts) -> Iterator[Texts]:
    """A corpus in batches of some thousand texts."""
    for start in range(0, len(documents), columns.ROWS_PER_BATCH):
        yield Texts(documents.table.slice(start, columns.ROWS_PER_BATCH))
