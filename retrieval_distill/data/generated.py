"""Datasets with generated queries, and their form in training.

A query that was removed from its document is trained with a copy of the document without it, ``QUERY-ID:document``,
which replaces the document for this query only: it is neither searched nor measured. A held-out query finds the copy in
place of the document, or it would find that by its own words. Knows datasets and Runs; must not know how queries are
generated.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data.columns import Record
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


def held_out_view(dataset: Dataset, split: str) -> Dataset:
    """The dataset as a held-out split sees it: copies replace the documents of its generated queries.

    They do so for all of the split's queries, among the documents and in the judgements. A split without generated
    queries is unchanged.
    """
    marks, qrels = _marks_with_copies(dataset), dataset.qrels(split)
    own = marks[marks["query_id"].isin(list(qrels))]
    if own.empty:
        return dataset
    copies, replaced = _by_pair(own), set(own["doc_id"])
    kept = dataset.documents.select([id_ for id_ in dataset.documents.ids if id_ not in replaced])
    documents = _concatenate(kept, Texts.from_records(_records(own)))
    judged: Qrels = {
        query: {copies.get((query, doc), doc): grade for doc, grade in grades.items()}
        for query, grades in qrels.items()
    }
    return dataset.replace(documents=documents, qrels={**dataset.qrels, split: judged}, parents=None)


def is_generated(dataset: Dataset, split: str) -> bool:
    """Whether a split's queries, or some of them, were generated from the documents."""
    if dataset.generated is None:
        return False
    return bool(
        pc.any(pc.is_in(pa.array(list(dataset.qrels(split)), pa.string()), dataset.generated["query_id"])).as_py()
    )


def hold_out(dataset: Dataset, count: int, seed: int) -> tuple[set[str], set[str]]:
    """Generated queries to hold out, one of each document that is drawn, and the others of these documents.

    Queries that stayed in their documents are held out only where none of their way was removed.

    Args:
        dataset: A dataset with generated queries.
        count: Queries to hold out; of the documents with queries a fifth at most.
        seed: Random seed.
    """
    assert dataset.generated is not None
    marks = dataset.generated.to_pandas()
    removed = marks["text"].notna()
    hidden = marks[removed | ~marks["way"].isin(marks["way"][removed])]
    documents = hidden["doc_id"].drop_duplicates()
    drawn = documents.sample(min(count, marks["doc_id"].nunique() // 5, len(documents)), random_state=seed)
    theirs = hidden[hidden["doc_id"].isin(drawn)].sample(frac=1, random_state=seed).drop_duplicates("doc_id")
    held_out = set(theirs["query_id"])
    return held_out, set(marks["query_id"][marks["doc_id"].isin(drawn)]) - held_out


def with_copies(dataset: Dataset) -> Texts:
    """The documents, followed by the copies."""
    if dataset.generated is None:
        return dataset.documents
    return _concatenate(dataset.documents, Texts.from_records(_records(_marks_with_copies(dataset))))


def use_copies(run: Run, dataset: Dataset) -> Run:
    """A Run in which the documents of generated queries are replaced by their copies."""
    marks = _marks_with_copies(dataset)
    if marks.empty:
        return run
    copies, frame = _by_pair(marks), run.frame
    return Run.from_columns(
        frame["query_id"], [copies.get(pair, pair[1]) for pair in run.pairs], frame["score"].to_numpy()
    )


def in_view(run: Run, dataset: Dataset, view: Dataset) -> Run:
    """A Run over the dataset's documents as a :func:`held_out_view` of it has them, without those that it lacks."""
    if view is dataset:
        return run
    frame = use_copies(run, dataset).frame
    lacking = [doc in dataset.documents and doc not in view.documents for doc in frame["doc_id"]]
    return Run(frame[~np.array(lacking, bool)].reset_index(drop=True))


def _marks_with_copies(dataset: Dataset) -> pd.DataFrame:
    """The marks of queries that were removed from their documents, with ``copy``, the copy's id."""
    marks = (MARKS.empty_table() if dataset.generated is None else dataset.generated).to_pandas().dropna(subset="text")
    return marks.assign(copy=[f"{query}:document" for query in marks["query_id"]])


def _records(marks: pd.DataFrame) -> Iterable[Record]:
    """The copies, as (id, title, text)."""
    return marks[["copy", "title", "text"]].itertuples(index=False, name=None)


def _by_pair(marks: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(query id, document id) -> the copy's id."""
    return dict(zip(zip(marks["query_id"], marks["doc_id"], strict=True), marks["copy"], strict=True))


def _concatenate(one: Texts, other: Texts) -> Texts:
    return Texts(pa.concat_tables([one.table, other.table]))
