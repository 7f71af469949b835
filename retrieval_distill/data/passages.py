"""Converts a Run of passages to a Run of their documents. Knows ids and scores; must not know texts.

The score of a document is that of its best passage (MaxP): Dai and Callan, "Deeper Text Understanding for IR with
Contextual Neural Language Modeling", SIGIR 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from retrieval_distill.data.run import Run


def max_pool(run: Run, parents: Sequence[str]) -> Run:
    """A Run of documents, each with the score of its best passage.

    Args:
        run: Scored passages; more than ``n`` of them are needed to find ``n`` documents.
        parents: The document of each row of ``run.frame``, ``dataset.parents_of(run.frame["doc_id"])``.
    """
    best = _of_each_document(run, parents)
    return Run.from_columns(best["query_id"], best["document"], best["score"])


def best_passages(run: Run, parents: Sequence[str]) -> Run:
    """The Run with only the best passage of every document; arguments as for :func:`max_pool`."""
    best = _of_each_document(run, parents)
    return Run(best.drop(columns="document").reset_index(drop=True))


def _of_each_document(run: Run, parents: Sequence[str]) -> pd.DataFrame:
    """The best row of each document: the first one, since rows are sorted by descending score."""
    return run.frame.assign(document=list(parents)).drop_duplicates(["query_id", "document"])
