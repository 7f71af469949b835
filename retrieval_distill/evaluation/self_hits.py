"""Drops self-hits: if queries are documents themselves (ArguAna, Quora), each query finds itself first.

Equal ids alone do not show this, since queries and documents may just be numbered alike, so texts are compared. Knows
Runs, ids and texts; must not know measures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.formatting import counted

logger = logging.getLogger("retrieval_distill")


def without_self_hits(systems: Mapping[str, Run], dataset: Dataset, judged: Qrels) -> Mapping[str, Run]:
    """Runs without self-hits; logs how many were dropped.

    Args:
        systems: Runs by name; for a dataset with passages, Runs of documents.
        dataset: The dataset, whose texts show whether queries are documents.
        judged: Judgements of the Runs' queries.
    """
    if not queries_are_documents(dataset.queries, whole_documents(dataset), judged):
        return systems
    kept = {name: drop_equal_ids(run) for name, run in systems.items()}
    hits = sum(len(run) for run in systems.values()) - sum(len(run) for run in kept.values())
    logger.info("queries are documents in this dataset: dropped %s naming the query itself", counted(hits, "result"))
    return kept


def drop_self_hits(run: Run, queries: Texts, documents: Texts, judged: Qrels) -> Run:
    """One Run without self-hits, without logging."""
    return drop_equal_ids(run) if queries_are_documents(queries, documents, judged) else run


def queries_are_documents(queries: Texts, documents: Texts, judged: Qrels) -> bool:
    """Whether most judged queries that share an id with a document contain its text, and none is its own answer.

    A query may contain the document's title too; white space and case are ignored.
    """
    if any(grades.get(query, 0) > 0 for query, grades in judged.items()):
        return False
    known = [query for query in judged if query in queries]
    shared = [query for query, row in zip(known, documents.rows.find(known), strict=True) if row >= 0]
    equal = sum(_plain(documents.record(query)[1]) in _plain(queries[query]) for query in shared)
    return 2 * equal > len(shared)


def drop_equal_ids(run: Run) -> Run:
    """A Run without pairs of a query and a document with the same id."""
    return Run(run.frame[run.frame["query_id"] != run.frame["doc_id"]].reset_index(drop=True))


def whole_documents(dataset: Dataset) -> Texts:
    """The documents; for passages, the first passage of each document under the document's id."""
    if dataset.parents is None:
        return dataset.documents
    table = dataset.documents.table
    return Texts(table.set_column(table.column_names.index("id"), "id", dataset.parents))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
