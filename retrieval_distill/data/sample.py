"""A smaller corpus for a trial run: the documents that answer its queries, and some of the others.

Knows datasets; must not know recipes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted


def sample_documents(dataset: Dataset, count: int, *, answered: Iterable[str], seed: int) -> Dataset:
    """The dataset with ``count`` of its documents: those relevant to some splits' queries, and others drawn by chance.

    Queries of other splits stay where an answer of theirs is among these documents. Fewer documents are easier to
    search: measures of such a corpus are comparable with each other, and with no measure of the whole one.

    Args:
        dataset: The whole dataset; a document with passages stays with all of them, or not at all.
        count: Documents to keep; the dataset is returned unchanged where it has no more.
        answered: Splits whose relevant documents all stay.
        seed: Random seed of the draw.

    Raises:
        UserError: More than ``count`` documents are relevant to queries of these splits.
    """
    if count >= dataset.size:
        return dataset
    parents = np.array(dataset.parents_of(dataset.documents.ids), dtype=object)
    relevant = {doc for split in answered for grades in dataset.qrels.get(split, {}).values()
                for doc, grade in grades.items() if grade > 0}  # fmt: skip
    needed = set(dataset.parents_of(sorted(relevant & dataset.documents.intersection(relevant))))
    if len(needed) > count:
        raise UserError(
            f"dataset.documents={count}, but {counted(len(needed), 'document', 'are')} relevant to the "
            "queries that train and measure: keep at least so many, or train on fewer queries (dataset.train_queries)"
        )
    others = [doc for doc in dict.fromkeys(parents) if doc not in needed]
    drawn = np.random.default_rng(seed).choice(len(others), count - len(needed), replace=False)
    kept = needed.union(others[row] for row in drawn)
    rows = np.flatnonzero([parent in kept for parent in parents])
    documents = dataset.documents.at(rows)
    made = dataset.generated
    return dataset.replace(
        documents=documents,
        parents=None if dataset.parents is None else dataset.parents.take(rows),
        qrels={split: _answered(judged, documents) for split, judged in dataset.qrels.items()},
        generated=None if made is None else made.filter([doc in documents for doc in made["doc_id"].to_pylist()]),
    )


def _answered(judged: Qrels, documents: Texts) -> Qrels:
    """The queries that a document is relevant to, with their judgements of these documents."""
    there = documents.intersection(doc for grades in judged.values() for doc in grades)
    found = {query: {doc: grade for doc, grade in grades.items() if doc in there} for query, grades in judged.items()}
    return {query: grades for query, grades in found.items() if any(grade > 0 for grade in grades.values())}
