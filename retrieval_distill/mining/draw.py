"""Draws each query's candidates: from the top or a band of ranks of its list, from a topic, or from all documents.

Knows ranked lists, pools of ids and shares; must not know models, teacher scores or texts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from retrieval_distill.config.mining import BAND
from retrieval_distill.data.run import Run

Pool = Callable[[str], Sequence[str]]
"""Query id -> the document ids that may be drawn for it."""


def draw(
    ranked: Run,
    query_ids: Sequence[str],
    shares: Mapping[str, float],
    keep: int,
    pools: Mapping[str, Pool],
    relevant: Mapping[str, Collection[str]],
    seed: int,
) -> dict[str, Run]:
    """Draw candidates: source -> Run; no document is drawn twice for a query.

    A source with fewer documents than its share gives all it has.

    Args:
        ranked: Documents of each query, best first; drawn ones keep their score.
        query_ids: The queries, in this order.
        shares: Source -> share of ``keep``: ``top``, ranks such as ``10-50``, or the name of a pool.
        keep: Candidates per query.
        pools: Pools by name; documents drawn from one score 0, and a query's relevant documents are not drawn.
        relevant: Query id -> its relevant documents.
        seed: Random seed.
    """
    lists = {query: dict(zip(docs, scores.tolist(), strict=True)) for query, docs, scores in ranked}
    counts = apportion(shares, keep)
    rows: dict[str, list[tuple[str, str, float]]] = {source: [] for source in counts}
    rng = np.random.default_rng(seed)
    for query in query_ids:
        scores = lists.get(query, {})
        taken: set[str] = set()
        for source, count in counts.items():
            if source in pools:
                drawn = _sample(pools[source](query), count, taken | set(relevant.get(query, ())), rng)
            else:
                drawn = _from_ranks(list(scores), source, count, taken, rng)
            taken.update(drawn)
            rows[source] += [(query, doc, scores.get(doc, 0.0)) for doc in drawn]
    return {source: Run.from_columns(*_columns(found)) for source, found in rows.items()}


def apportion(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Divide a total into whole numbers by shares (largest-remainder method); ties go to the source named first."""
    exact = {source: total * share / sum(shares.values()) for source, share in shares.items()}
    counts = {source: int(count + 1e-9) for source, count in exact.items()}
    by_remainder = sorted(exact, key=lambda source: counts[source] - exact[source])
    for source in by_remainder[: total - sum(counts.values())]:
        counts[source] += 1
    return counts


def _from_ranks(docs: list[str], source: str, count: int, taken: set[str], rng: np.random.Generator) -> list[str]:
    if ranks := BAND.fullmatch(source):
        return _sample(docs[int(ranks[1]) - 1 : int(ranks[2])], count, taken, rng)
    return [doc for doc in docs[: count + len(taken)] if doc not in taken][:count]


def _sample(pool: Sequence[str], count: int, left_out: set[str], rng: np.random.Generator) -> list[str]:
    """A random sample of a pool, in random order; never iterates the pool, which may hold all documents."""
    rows = rng.choice(len(pool), min(len(pool), count + len(left_out)), replace=False)
    return [pool[row] for row in rows if pool[row] not in left_out][:count]


def _columns(rows: list[tuple[str, str, float]]) -> tuple[Sequence[str], ...]:
    return tuple(zip(*rows, strict=True)) if rows else ((), (), ())
