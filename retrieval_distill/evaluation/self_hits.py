"""Where queries are documents themselves (ArguAna, Quora), each finds itself first: no answer, so it is left out.

Equal ids do not tell that, for queries and documents may merely be numbered alike; texts do. Knows Runs, ids and
texts; must not know measures.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.run import Run

logger = logging.getLogger("retrieval_distill")


def left_out(systems: Mapping[str, Run], dataset: Dataset, judged: Qrels) -> Mapping[str, Run]:
    """Runs without the documents that are their own queries, with a word on how many there were.

    Args:
        systems: Runs by name; of a dataset cut into passages, Runs of documents.
        dataset: Whose texts tell whether queries are documents.
        judged: Judgements of the Runs' queries.
    """
    if not queries_are_documents(dataset.queries, whole(dataset), judged):
        return systems
    kept = {name: dropped(run) for name, run in systems.items()}
    hits = sum(len(run) for run in systems.values()) - sum(len(run) for run in kept.values())
    logger.info("queries are documents here: each query's own document is no answer to it; %d left out", hits)
    return kept


def without(run: Run, queries: Texts, documents: Texts, judged: Qrels) -> Run:
    """The same for one Run, silently."""
    return dropped(run) if queries_are_documents(queries, documents, judged) else run


def queries_are_documents(queries: Texts, documents: Texts, judged: Qrels) -> bool:
    """Whether most judged queries that share an id with a document hold its text, and none has itself for an answer.

    A query may hold the document's title too; white space and case do not matter.
    """
    if any(grades.get(query, 0) > 0 for query, grades in judged.items()):
        return False
    asked = [query for query in judged if query in queries]
    shared = [query for query, row in zip(asked, documents.rows.find(asked), strict=True) if row >= 0]
    equal = sum(_plain(documents.record(query)[1]) in _plain(queries[query]) for query in shared)
    return 2 * equal > len(shared)


def dropped(run: Run) -> Run:
    """Without pairs of a query and a document of one id."""
    return Run(run.frame[run.frame["query_id"] != run.frame["doc_id"]].reset_index(drop=True))


def whole(dataset: Dataset) -> Texts:
    """The documents; where they are passages, the first passage of each document under the document's id."""
    if dataset.parents is None:
        return dataset.documents
    table = dataset.documents.table
    return Texts(table.set_column(table.column_names.index("id"), "id", dataset.parents))


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
