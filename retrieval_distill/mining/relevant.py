"""Limits the number of relevant documents per query that are scored and trained on.

The others still count as relevant: they are neither candidates nor negatives. Knows judgements and ids; must
not know texts, models or scores.
"""

from __future__ import annotations

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.data.run import Run


def limit_relevant(candidates: Run, qrels: Qrels, limit: int | None) -> Run:
    """Candidates with at most ``limit`` relevant documents per query; ``None``: with all.

    Higher grades come first, equal ones by a hash of the ids: the choice is the same in every round, for every seed
    and retriever, so that no pair is scored once and then dropped.
    """
    if limit is None:
        return candidates
    frame = candidates.frame
    grades = [qrels.get(query, {}).get(doc, 0) for query, doc in candidates.pairs]
    draw = text_hashes([f"{query}\0{doc}" for query, doc in candidates.pairs])
    ranked = frame.assign(grade=grades, draw=draw).sort_values(["grade", "draw"], ascending=[False, True])
    ranked = ranked[ranked["grade"] > 0]
    beyond = ranked.index[ranked.groupby("query_id", sort=False).cumcount() >= limit]
    return Run(frame.drop(index=beyond).reset_index(drop=True))
