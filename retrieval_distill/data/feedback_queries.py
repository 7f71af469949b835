"""Datasets with queries from people's feedback, and what it adds to candidates and scores.

Knows the table of a dataset's feedback (see ``retrieval_distill.feedback.relevance``), datasets and Runs; must not know
logs, or how relevance is estimated.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.relevance import PAIR
from retrieval_distill.data.run import Run

FILE = "feedback.parquet"
"""The table, in the folder of a dataset or of a run's stage."""


def add_feedback(dataset: Dataset, told: pd.DataFrame, split: str) -> Dataset:
    """The dataset with the feedback's queries and judgements in a split, which need not exist.

    A judgement is a grade above 0, or 0 for a hard negative; other documents stay unjudged. Of a pair that the split
    judges already, its own grade stays.

    Args:
        dataset: Has the documents.
        told: Columns ``query_id``, ``query``, ``doc_id``, ``grade`` and ``negative``.
        split: The training split.
    """
    asked = told.drop_duplicates("query_id")
    known = dataset.queries.intersection(asked["query_id"])
    new = asked[~asked["query_id"].isin(known)]
    texts = Texts.from_records((id_, "", text) for id_, text in zip(new["query_id"], new["query"], strict=True))
    judged: Qrels = {id_: dict(grades) for id_, grades in dataset.qrels.get(split, {}).items()}
    kept = told[(told["grade"] > 0) | told["negative"]]
    for query_id, doc_id, grade in zip(kept["query_id"], kept["doc_id"], kept["grade"].tolist(), strict=True):
        judged.setdefault(query_id, {}).setdefault(doc_id, grade)
    return dataset.replace(
        queries=Texts(pa.concat_tables([dataset.queries.table, texts.table])), qrels={**dataset.qrels, split: judged}
    )


def with_negatives(candidates: Run, told: pd.DataFrame, query_ids: Iterable[str], limit: int | None) -> Run:
    """Candidates plus the hard negatives of these queries.

    Args:
        candidates: Of the queries.
        told: Columns ``query_id``, ``doc_id``, ``skipped`` and ``negative``.
        query_ids: The queries that are trained on.
        limit: Hard negatives of a query, the most often skipped first; ``None``: all.
    """
    chosen = told[told["negative"] & told["query_id"].isin(list(query_ids))]
    chosen = chosen.sort_values("skipped", ascending=False, kind="stable")
    if limit is not None:
        chosen = chosen.groupby("query_id", sort=False).head(limit)
    known = pd.MultiIndex.from_frame(candidates.frame[PAIR])
    new = chosen[~pd.MultiIndex.from_frame(chosen[PAIR]).isin(known)]
    frame = pd.concat([candidates.frame, new[PAIR].assign(score=0.0)])
    return Run.from_columns(frame["query_id"], frame["doc_id"], frame["score"])


def raised(scored: Run, told: pd.DataFrame, weight: float) -> Run:
    """Teacher scores plus the value of each pair, times ``weight`` standard deviations of all scores.

    Args:
        scored: Candidates under a teacher's scores.
        told: Columns ``query_id``, ``doc_id`` and ``value``.
        weight: How much a value of 1 counts; 0: the scores are unchanged.
    """
    values = told.set_index(PAIR)["value"].reindex(pd.MultiIndex.from_frame(scored.frame[PAIR])).fillna(0.0)
    scores = scored.frame["score"].to_numpy()
    return scored.with_scores(scores + weight * scores.std() * values.to_numpy())
