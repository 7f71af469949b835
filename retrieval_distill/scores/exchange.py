"""Between a score store, which knows pairs by hashes, and files, which know them by ids.

Knows ids, texts and hashes; must not know models, or how either side lays out its files.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.scores import files, lookup
from retrieval_distill.scores.store import ScoreStore

logger = logging.getLogger("retrieval_distill")

PAIRS_PER_SHARD = 4_000_000
"""Pairs of a file that are committed to the store at a time."""


def export_run(store: ScoreStore, teacher: str, queries: Texts, documents: Texts, path: str | Path) -> Run:
    """Write what the store knows of a dataset as a Run, in the format that the file's ending asks for.

    Texts that stand under several ids get a row for each.

    Raises:
        UserError: The store holds no scores of this teacher, or none of this dataset.
    """
    shards = store.scored_shards(teacher)
    asked, found, scores = lookup.among(shards, text_hashes(queries.take()), text_hashes(documents.take()))
    if not len(scores):
        raise UserError(f"{store.root}: teacher {teacher} has scored no pair of this dataset's queries and documents")
    run = Run.from_columns(np.array(queries.ids, object)[asked], np.array(documents.ids, object)[found], scores)
    run.save(path)
    return run


def import_scores(
    store: ScoreStore, path: str | Path, queries: Texts, documents: Texts, description: dict[str, Any]
) -> tuple[str, dict[str, int]]:
    """Take precomputed scores into the store as a teacher of their own.

    Args:
        store: Where they go; what it holds already is not written again.
        path: A file that ``files.read_scores`` reads.
        queries: Texts of the file's queries.
        documents: Texts of the file's documents.
        description: What people should know of the scores, such as ``{"model": ...}``.

    Returns:
        The teacher's fingerprint (of the file), and counts: ``pairs`` in the file, ``imported`` now, ``stored``
        before (or the same texts under other ids), ``left_out``, ``unknown_queries``, ``unknown_documents`` and
        ``contradicted``: pairs that have another score than an equal pair of texts, the one that the store keeps.

    Raises:
        UserError: The file cannot be read, or names no pair of this dataset; the store is then as it was before.
    """
    teacher = files.load(path)
    asked, found = _known(teacher.frame["query_id"], queries), _known(teacher.frame["doc_id"], documents)
    known = asked.known & found.known
    if not known.any():
        raise UserError(_foreign(path, teacher.frame, queries, documents))
    for what, ids in (("query", asked.unknown), ("document", found.unknown)):
        if ids:
            logger.warning("%s: %s %s ids are not in the dataset: %s", path, f"{len(ids):,}", what, _first(ids))
    query_hashes, document_hashes, scores = (
        values[known] for values in (asked.hashes, found.hashes, teacher.frame["score"].to_numpy())
    )
    store.describe(teacher.fingerprint, {**teacher.description, **description})
    missing = store.missing(teacher.fingerprint, query_hashes, document_hashes)
    for start in range(0, len(missing), PAIRS_PER_SHARD):
        rows = missing[start : start + PAIRS_PER_SHARD]
        store.add(teacher.fingerprint, query_hashes[rows], document_hashes[rows], scores[rows])
    again = np.delete(np.arange(len(scores)), missing)
    kept = store.lookup(teacher.fingerprint, query_hashes[again], document_hashes[again])
    contradicted = np.flatnonzero(kept != scores[again].astype(np.float32))
    if len(contradicted):
        query, document, score = teacher.frame[known].iloc[again[contradicted[0]]]
        logger.warning(
            "%s: %s pairs have another score than a pair of equal texts, first query %r with document %r: %g, where "
            "%g is kept; the score store knows texts, not ids: to train on both, give the file as --teacher scores:%s",
            path, f"{len(contradicted):,}", query, document, score, kept[contradicted[0]], path,
        )  # fmt: skip
    return teacher.fingerprint, {
        "pairs": len(known),
        "imported": len(missing),
        "stored": int(known.sum()) - len(missing),
        "left_out": int((~known).sum()),
        "unknown_queries": len(asked.unknown),
        "unknown_documents": len(found.unknown),
        "contradicted": len(contradicted),
    }


@dataclass(frozen=True, eq=False)
class _Known:
    """Which rows of a column of ids a dataset knows, and the hashes of their texts (0 for the others)."""

    hashes: np.ndarray
    known: np.ndarray
    unknown: list[str]


def _known(column: pd.Series, texts: Texts) -> _Known:
    rows, ids = pd.factorize(column)
    known = np.array([id_ in texts for id_ in ids], bool)
    hashes = np.zeros(len(ids), np.uint64)
    hashes[known] = text_hashes(texts.take(ids[known].tolist()))
    return _Known(hashes[rows], known[rows], ids[~known].tolist())


def _first(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:3]))


def _foreign(path: str | Path, frame: pd.DataFrame, queries: Texts, documents: Texts) -> str:
    sides = (("queries", "query_id", queries), ("documents", "doc_id", documents))
    compared = "; ".join(
        f"{what} there are {_first(frame[column].unique().tolist())}, here {_first(texts.ids)}"
        for what, column, texts in sides
    )
    return f"{path}: none of its pairs is of this dataset ({compared}); give the dataset that was scored"
