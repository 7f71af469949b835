"""A dataset with generated queries, and what training on them sees of it.

A query that was taken out of its document is trained with a copy of the document without it, ``QUERY-ID:document``,
which stands in the corpus's place for this query alone: it is neither searched nor measured. Knows datasets and Runs;
must not know how queries are made.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError

MARKS = pa.schema([(name, pa.string()) for name in ("query_id", "way", "doc_id", "title", "text")])
"""Of ``Dataset.generated``."""

SPLIT = "generated"
"""The split that judges generated queries: the document that one was made from is relevant."""


TRAIN = "train"
"""What the split that trains is called where nobody says otherwise."""


def merged(dataset: Dataset, made: pd.DataFrame) -> Dataset:
    """The dataset with generated queries beside its own, as the split ``generated``.

    Args:
        dataset: Without such a split.
        made: Columns ``query_id``, ``way``, ``doc_id``, ``query``, ``title`` and ``text``.

    Raises:
        UserError: The dataset has generated queries already.
    """
    refuse_generated(dataset)
    asked = Texts.from_records((id_, "", text) for id_, text in zip(made["query_id"], made["query"], strict=True))
    qrels = {query: {doc: 1} for query, doc in zip(made["query_id"], made["doc_id"], strict=True)}
    return dataset.replaced(
        queries=_joined(dataset.queries, asked),
        qrels={**dataset.qrels, SPLIT: qrels},
        generated=pa.Table.from_pandas(made[MARKS.names], MARKS, preserve_index=False),
    )


def refuse_generated(dataset: Dataset) -> None:
    """Refuse a dataset that has generated queries, or that several were joined to.

    Raises:
        UserError: It has, or is.
    """
    if dataset.sources:
        raise UserError("queries are generated for one dataset: generate for each by itself, then join what comes out")
    if SPLIT in dataset.qrels:
        raise UserError(
            f"dataset {dataset.name!r} has a split {SPLIT!r} already; generate from the dataset that it was made from, "
            "or train on it as it is, without generate"
        )


def training_split(dataset: Dataset, named: str) -> str:
    """The split that trains: the one named or, where a dataset lacks a split ``train``, its generated queries."""
    generated = named == TRAIN and named not in dataset.qrels and SPLIT in dataset.qrels
    return SPLIT if generated else named


def as_trained(dataset: Dataset, split: str) -> Dataset:
    """The dataset as training on a split sees it: copies among the documents, the queries' judgements naming them.

    The document itself, and its other queries' copies of it, are judged relevant too: training on a query never takes
    them for negatives. A split without generated queries is seen as it is.
    """
    marks, asked = _taken_out(dataset), dataset.qrels(split)
    if not marks["query_id"].isin(list(asked)).any():
        return dataset
    siblings = marks.groupby("doc_id")["copy"].agg(list).to_dict()
    judged: Qrels = {
        query: {**grades, **{copy: 1 for doc, grade in grades.items() if grade > 0 for copy in siblings.get(doc, ())}}
        for query, grades in asked.items()
    }
    return dataset.replaced(documents=with_copies(dataset), qrels={**dataset.qrels, split: judged}, parents=None)


def with_copies(dataset: Dataset) -> Texts:
    """The documents, and behind them the copies."""
    records = _taken_out(dataset)[["copy", "title", "text"]].itertuples(index=False, name=None)
    return dataset.documents if dataset.generated is None else _joined(dataset.documents, Texts.from_records(records))


def renamed(run: Run, dataset: Dataset) -> Run:
    """A Run in which generated queries have the copies of their documents in place of the documents."""
    marks = _taken_out(dataset)
    if marks.empty:
        return run
    copies = dict(zip(zip(marks["query_id"], marks["doc_id"], strict=True), marks["copy"], strict=True))
    frame = run.frame
    return Run.from_columns(
        frame["query_id"], [copies.get(pair, pair[1]) for pair in run.pairs], frame["score"].to_numpy()
    )


def _taken_out(dataset: Dataset) -> pd.DataFrame:
    """The marks of queries that were taken out of their documents, and ``copy``, the copy's id."""
    marks = (MARKS.empty_table() if dataset.generated is None else dataset.generated).to_pandas().dropna(subset="text")
    return marks.assign(copy=[f"{query}:document" for query in marks["query_id"]])


def _joined(one: Texts, other: Texts) -> Texts:
    return Texts(pa.concat_tables([one.table, other.table]))
