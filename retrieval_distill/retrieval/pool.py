"""A Run of passages as a Run of the documents they are part of. Knows ids and scores; must not know texts.

The score of a document is that of its best passage (MaxP): Dai and Callan, "Deeper Text Understanding for IR with
Contextual Neural Language Modeling", SIGIR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

from retrieval_distill.retrieval.run import Run


def max_pool(run: Run, parents: Sequence[str]) -> Run:
    """The best passage's score for every document that a Run found a passage of.

    Args:
        run: Scored passages; to find ``n`` documents it has to be some passages deeper than ``n``.
        parents: The document of each row of ``run.frame``, as ``dataset.parents_of(run.frame["doc_id"])`` gives.
    """
    pooled = run.frame.assign(doc_id=list(parents)).groupby(["query_id", "doc_id"], sort=False, as_index=False)
    best = pooled["score"].max()
    return Run.from_columns(best["query_id"], best["doc_id"], best["score"])
