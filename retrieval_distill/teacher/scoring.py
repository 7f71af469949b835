"""``score``: Run -> Run through the score store. Nothing is scored twice, nothing committed is lost.

Knows Runs, texts, the store and the teacher's contract; must not know what kind of teacher it is.
"""

from __future__ import annotations

import logging
import time

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.data.run import Run
from retrieval_distill.data.unknown_ids import refuse_unknown
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime.batching import batch_by_time
from retrieval_distill.runtime.progress import clock, progress
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.scores.teacher_contract import Pairs, ScoresByIds, ScoreStream, Silent, Teacher

logger = logging.getLogger("retrieval_distill")

SECONDS_PER_COMMIT = 15.0
"""Time between shards: the most that a crash costs."""

SECONDS_TO_MEASURE = 1.0
"""Time after which the pace is known well enough to say how long scoring takes."""


def score(
    run: Run, queries: Texts, documents: Texts, teacher: Teacher, store: ScoreStore
) -> tuple[Run, dict[str, int]]:
    """Give every pair of a Run its teacher score.

    Args:
        run: The pairs; their own scores do not matter.
        queries: Texts of the run's queries.
        documents: Texts of the run's documents.
        teacher: Asked only for pairs that the store does not hold.
        store: Where scores are kept, a shard at a time.

    Returns:
        The rescored Run, and counts: ``pairs``, ``scored`` (now) and ``stored`` (before); of a teacher that has
        nothing to say on some pairs, how many these are (``silent``).

    Raises:
        UserError: The run names unknown ids, or the teacher gives NaN or infinite scores.
    """
    pairs = pairs_of(run, queries, documents)
    query_hashes = text_hashes(pairs.queries)[pairs.rows[:, 0]]
    document_hashes = text_hashes(pairs.documents)[pairs.rows[:, 1]]
    store.describe(teacher.fingerprint, teacher.description)
    missing = store.missing(teacher.fingerprint, query_hashes, document_hashes)
    asked = _costed(teacher.score(pairs.only(missing)), len(missing)) if len(missing) else iter(())
    if len(missing):
        logger.info(
            "the teacher scores %s of %s; %s were scored before",
            counted(len(missing), "pair"), counted(len(np.unique(pairs.rows[missing, 0])), "query"),
            f"{len(run) - len(missing):,}",
        )  # fmt: skip
    done = len(run) - len(missing)
    with progress("scoring pairs with the teacher", len(run), "pair", done, saved_in=store.root) as advance:
        for rows, scores in map(_joined, batch_by_time(asked, SECONDS_PER_COMMIT)):
            if not np.isfinite(scores).all():
                raise UserError(_not_finite(run, rows[~np.isfinite(scores)], teacher))
            store.add(teacher.fingerprint, query_hashes[rows], document_hashes[rows], scores)
            advance(len(rows))
    counts = {"pairs": len(run), "scored": len(missing), "stored": len(run) - len(missing)}
    found = store.lookup(teacher.fingerprint, query_hashes, document_hashes)
    if isinstance(teacher, Silent):
        counts["silent"] = int((found == np.float32(teacher.silent)).sum())
        logger.info(
            "teacher %r has nothing to say on %s of %s; it scores them %g",
            teacher.description["model"], f"{counts['silent']:,}", counted(len(run), "pair"), teacher.silent,
        )  # fmt: skip
    return run.with_scores(_by_ids(teacher, pairs, found) if isinstance(teacher, ScoresByIds) else found), counts


def pairs_of(run: Run, queries: Texts, documents: Texts) -> Pairs:
    """Every pair of a Run, in its order, with its texts; all are wanted.

    Raises:
        UserError: The run names unknown ids.
    """
    refuse_unknown(run, queries, documents)
    query_ids, query_rows = np.unique(run.frame["query_id"].to_numpy(object), return_inverse=True)
    document_ids, document_rows = np.unique(run.frame["doc_id"].to_numpy(object), return_inverse=True)
    asked, found = queries.take(list(query_ids)), documents.take(list(document_ids))
    rows = np.stack([query_rows, document_rows], axis=1)
    return Pairs(query_ids.tolist(), asked, document_ids.tolist(), found, rows, np.ones(len(run), bool))


def _costed(scored: ScoreStream, pairs: int) -> ScoreStream:
    """The same scores; after the first of them, which may have to load a model, how long so many pairs take."""
    done, start = 0, 0.0
    for rows, scores in scored:
        yield rows, scores
        if not start:
            start = time.monotonic()
            continue
        done += len(rows)
        seconds = time.monotonic() - start
        if seconds >= SECONDS_TO_MEASURE and done < pairs:
            rate = done / seconds
            logger.info("scoring takes about %s: %s pairs/s here", clock(pairs / rate), f"{rate:,.1f}")
            break
    yield from scored


def _joined(held: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    rows, scores = zip(*held, strict=True)
    return np.concatenate(rows), np.concatenate(scores)


def _not_finite(run: Run, rows: np.ndarray, teacher: Teacher) -> str:
    first = run.frame.iloc[int(rows[0])]
    return (
        f"teacher {teacher.description.get('model')!r} gave NaN or infinite scores for {counted(len(rows), 'pair')}, "
        f"first for query {first['query_id']!r} and document {first['doc_id']!r}; "
        "try teacher.dtype=float32, or another teacher"
    )


def _by_ids(teacher: ScoresByIds, pairs: Pairs, stored: np.ndarray) -> np.ndarray:
    """Scores of a teacher that knows ids; the store, which knows texts, has one for all pairs of equal texts."""
    own = teacher.lookup(pairs)
    other = np.flatnonzero(~np.isnan(own) & (own != stored))
    if len(other):
        query, document = pairs.ids(int(other[0]))
        logger.warning(
            "%s another score than pairs of equal texts, first query %r with document %r; "
            "each keeps its own, but the score store knows one for a text",
            counted(len(other), "pair", "have"), query, document,
        )  # fmt: skip
    return np.where(np.isnan(own), stored, own)
