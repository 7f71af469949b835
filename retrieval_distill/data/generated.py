"""Datasets with generated queries, and their form in training.

A query that was removed from its document is trained with a copy of the document without it, ``QUERY-ID:document``,
which replaces the document for this query only: it is neither searched nor measured. Knows datasets and Runs; must not
know how queries are generated.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError

MARKS = pa.schema([(name, pa.string()) for name in ("query_id", "way", "doc_id", "title", "text")])
"""Schema of ``Dataset.generated``."""

SPLIT = "generated"
"""The split of generated queries, in which each one's source document is relevant."""


TRAIN = "train"
"""Default name of the training split."""


def add_generated(dataset: Dataset, made: pd.DataFrame) -> Dataset:
    """The dataset with generated queries added, as the split ``generated``.

    Args:
        dataset: A dataset without such a split.
        made: Columns ``query_id``, ``way``, ``doc_id``, ``query``, ``title`` and ``text``.

    Raises:
        UserError: The dataset already has generated queries.
    """
    refuse_generated(dataset)
    queries = Texts.from_records((id_, "", text) for id_, text in zip(made["query_id"], made["query"], strict=True))
    qrels = {query: {doc: 1} for query, doc in zip(made["query_id"], made["doc_id"], strict=True)}
    return dataset.replace(
        queries=_concatenate(dataset.queries, queries),
        qrels={**dataset.qrels, SPLIT: qrels},
        generated=pa.Table.from_pandas(made[MARKS.names], MARKS, preserve_index=False),
    )


def refuse_generated(dataset: Dataset) -> None:
    """Refuse a dataset with generated queries, and a mixture of datasets.

    Raises:
        UserError: It is one of these.
    """
    if dataset.sources:
        raise UserError("queries are generated for one dataset at a time; generate for each one, then join the results")
    if SPLIT in dataset.qrels:
        raise UserError(
            f"dataset {dataset.name!r} already has a split {SPLIT!r}; generate from the dataset it was made from, "
            "or train on it without generate"
        )


def training_split(dataset: Dataset, named: str) -> str:
    """The training split: the one named or, if a dataset has no split ``train``, its generated queries."""
    generated = named == TRAIN and named not in dataset.qrels and SPLIT in dataset.qrels
    return SPLIT if generated else named


def training_view(dataset: Dataset, split: str) -> Dataset:
    """The dataset as training on a split sees it: with copies among the documents and in the judgements.

    The document itself, and its copies for other queries, are judged relevant too, so that training never uses them as
    negatives. A split without generated queries is unchanged.
    """
    marks, qrels = _marks_with_copies(dataset), dataset.qrels(split)
    if not marks["query_id"].isin(list(qrels)).any():
        return dataset
    siblings = marks.groupby("doc_id")["copy"].agg(list).to_dict()
    judged: Qrels = {
        query: {**grades, **{copy: 1 for doc, grade in grades.items() if grade > 0 for copy in siblings.get(doc, ())}}
        for query, grades in qrels.items()
    }
    return dataset.replace(documents=with_copies(dataset), qrels={**dataset.qrels, split: judged}, parents=None)


def with_copies(dataset: Dataset) -> Texts:
    """The documents, followed by the copies."""
    records = _marks_with_copies(dataset)[["copy", "title", "text"]].itertuples(index=False, name=None)
    return (
        dataset.documents if dataset.generated is None else _concatenate(dataset.documents, Texts.from_records(records))
    )


def use_copies(run: Run, dataset: Dataset) -> Run:
    """A Run in which the documents of generated queries are replaced by their copies."""
    marks = _marks_with_copies(dataset)
    if marks.empty:
        return run
    copies = dict(zip(zip(marks["query_id"], marks["doc_id"], strict=True), marks["copy"], strict=True))
    frame = run.frame
    return Run.from_columns(
        frame["query_id"], [copies.get(pair, pair[1]) for pair in run.pairs], frame["score"].to_numpy()
    )


def _marks_with_copies(dataset: Dataset) -> pd.DataFrame:
    """The marks of queries that were removed from their documents, with ``copy``, the copy's id."""
    marks = (MARKS.empty_table() if dataset.generated is None else dataset.generated).to_pandas().dropna(subset="text")
    return marks.assign(copy=[f"{query}:document" for query in marks["query_id"]])


def _concatenate(one: Texts, other: Texts) -> Texts:
    return Texts(pa.concat_tables([one.table, other.table]))
