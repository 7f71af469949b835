"""Converts Runs and judgements of passages to those of documents, each by its best passage.

Knows Runs, judgements and the document of each passage; must not know measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from retrieval_distill.data.dataset import Dataset, Qrels
from retrieval_distill.data.passages import max_pool
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import self_hits


def by_document(systems: Mapping[str, Run], dataset: Dataset, judged: Qrels) -> tuple[Mapping[str, Run], Qrels]:
    """Runs and judgements of documents; if queries are documents themselves, without their own."""
    if dataset.parents is not None:
        systems = {name: max_pool(run, dataset.parents_of(run.frame["doc_id"])) for name, run in systems.items()}
        judged = dataset.by_document(judged)
    return self_hits.without_self_hits(systems, dataset, judged), judged


def pooling(dataset: Dataset, judged: Qrels) -> tuple[Callable[[Run], Run], Qrels]:
    """A function that converts one Run like :func:`by_document`, without logging; and the judgements of documents."""
    grades = judged if dataset.parents is None else dataset.by_document(judged)
    own_are_hits = self_hits.queries_are_documents(dataset.queries, self_hits.whole_documents(dataset), grades)

    def pool(run: Run) -> Run:
        found = run if dataset.parents is None else max_pool(run, dataset.parents_of(run.frame["doc_id"]))
        return self_hits.drop_equal_ids(found) if own_are_hits else found

    return pool, grades
