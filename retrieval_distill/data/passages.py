"""A Run of passages as a Run of the documents they are part of. Knows ids and scores; must not know texts.

The score of a document is that of its best passage (MaxP): Dai and Callan, "Deeper Text Understanding for IR with
Contextual Neural Language Modeling", SIGIR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from retrieval_distill.data.run import Run


def max_pool(run: Run, parents: Sequence[str]) -> Run:
    """The best passage's score for every document that a Run found a passage of.

    Args:
        run: Scored passages; to find ``n`` documents it has to be some passages deeper than ``n``.
        parents: The document of each row of ``run.frame``, as ``dataset.parents_of(run.frame["doc_id"])`` gives.
    """
    best = _of_each_document(run, parents)
    return Run.from_columns(best["query_id"], best["document"], best["score"])


def best_passages(run: Run, parents: Sequence[str]) -> Run:
    """The same Run with one passage of every document, its best one; arguments as for :func:`max_pool`."""
    best = _of_each_document(run, parents)
    return Run(best.drop(columns="document").reset_index(drop=True))


def _of_each_document(run: Run, parents: Sequence[str]) -> pd.DataFrame:
    """Rows stand by falling score, so that a document's first one is its best."""
    return run.frame.assign(document=list(parents)).drop_duplicates(["query_id", "document"])
