"""How many of a query's relevant documents are scored and trained on, where it has very many.

The others stay known as relevant: they are no candidates, and so no negatives either. Knows judgements and ids; must
not know texts, models or scores.
"""

from __future__ import annotations

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.data.run import Run


def at_most(candidates: Run, qrels: Qrels, limit: int | None) -> Run:
    """Candidates with ``limit`` relevant documents for each query at most; ``None``: with all.

    Of higher grades first, of equal ones by a hash of the ids: a draw that is the same in every round, under every seed
    and wherever a retriever ranks them, so that no pair is scored for one and left out for the other.
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
