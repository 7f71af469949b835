"""Imports and exports scores: the store identifies pairs by hashes, files by ids.

Knows ids, texts and hashes; must not know models, or the layout of files and stores.
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
from retrieval_distill.formatting import counted
from retrieval_distill.scores import lookup, score_files
from retrieval_distill.scores.store import ScoreStore

logger = logging.getLogger("retrieval_distill")

PAIRS_PER_SHARD = 4_000_000
"""Pairs committed to the store at a time."""


def export_run(store: ScoreStore, teacher: str, queries: Texts, documents: Texts, path: str | Path) -> Run:
    """Write the stored scores of a dataset as a Run, in the format given by the file's suffix.

    A text with several ids gets a row for each.

    Raises:
        UserError: The store holds no scores of this teacher, or none of this dataset.
    """
    shards = store.scored_shards(teacher)
    query_rows, document_rows, scores = lookup.scores_among(
        shards, text_hashes(queries.take()), text_hashes(documents.take())
    )
    if not len(scores):
        raise UserError(f"{store.root}: teacher {teacher} has scored no pair of this dataset's queries and documents")
    run = Run.from_columns(
        np.array(queries.ids, object)[query_rows], np.array(documents.ids, object)[document_rows], scores
    )
    run.save(path)
    return run


def import_scores(
    store: ScoreStore, path: str | Path, queries: Texts, documents: Texts, description: dict[str, Any]
) -> tuple[str, dict[str, int]]:
    """Import precomputed scores into the store as a teacher of their own.

    Args:
        store: The store; scores that it already holds are not written again.
        path: A file that ``score_files.read_scores`` can read.
        queries: Texts of the file's queries.
        documents: Texts of the file's documents.
        description: Information for people, such as ``{"model": ...}``.

    Returns:
        The teacher's fingerprint (of the file), and counts: ``pairs`` in the file, ``imported`` now, ``stored``
        before (or under other ids), ``left_out``, ``unknown_queries``, ``unknown_documents`` and ``contradicted``:
        pairs whose score differs from the stored one of the same texts, which is kept.

    Raises:
        UserError: The file cannot be read, or has no pair of this dataset; the store is then unchanged.
    """
    teacher = score_files.load(path)
    asked, found = _match_ids(teacher.frame["query_id"], queries), _match_ids(teacher.frame["doc_id"], documents)
    known = asked.known & found.known
    if not known.any():
        raise UserError(_no_match_message(path, teacher.frame, queries, documents))
    for what, ids in (("query", asked.unknown), ("document", found.unknown)):
        if ids:
            unknown = counted(len(ids), f"{what} id", "are")
            logger.warning("%s: %s not in the dataset: %s", path, unknown, _examples(ids))
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
            "%s: %s in score from a pair with the same texts, first query %r with document %r: %g, but %g "
            "is kept; the score store identifies texts, not ids: to train on both, use --teacher scores:%s",
            path, counted(len(contradicted), "pair", "differ"), query, document, score, kept[contradicted[0]], path,
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
class _MatchedIds:
    """Which ids of a column are in the dataset, and the hashes of their texts (0 for the others)."""

    hashes: np.ndarray
    known: np.ndarray
    unknown: list[str]


def _match_ids(column: pd.Series, texts: Texts) -> _MatchedIds:
    rows, ids = pd.factorize(column)
    known = np.array([id_ in texts for id_ in ids], bool)
    hashes = np.zeros(len(ids), np.uint64)
    hashes[known] = text_hashes(texts.take(ids[known].tolist()))
    return _MatchedIds(hashes[rows], known[rows], ids[~known].tolist())


def _examples(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:3]))


def _no_match_message(path: str | Path, frame: pd.DataFrame, queries: Texts, documents: Texts) -> str:
    sides = (("queries", "query_id", queries), ("documents", "doc_id", documents))
    compared = "; ".join(
        f"its {what} are like {_examples(frame[column].unique().tolist())}, the dataset's like {_examples(texts.ids)}"
        for what, column, texts in sides
    )
    return f"{path}: none of its pairs is in this dataset ({compared}); give the dataset that was scored"
