"""A log as training data of a dataset: its queries, graded judgements and hard negatives.

    estimates -> documents of this corpus -> queries joined to the training split's -> without held-out queries

Knows estimates, datasets and how they fit; must not know models, or how a student is trained.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import pandas as pd

from retrieval_distill.config import FeedbackConfig
from retrieval_distill.data import generated
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.prepare import leakage
from retrieval_distill.data.prepare.passages import to_best
from retrieval_distill.errors import UserError
from retrieval_distill.feedback import propensities
from retrieval_distill.feedback.log import Feedback, normalised
from retrieval_distill.feedback.propensities import Propensities
from retrieval_distill.feedback.relevance import estimate
from retrieval_distill.formatting import counted

LEFT_OUT = 3
"""Reasons that a message names."""


@dataclass(frozen=True)
class TrainingData:
    """What a log teaches about a dataset."""

    told: pd.DataFrame
    """The columns of :func:`retrieval_distill.feedback.relevance.estimate`, under ids of the dataset."""
    left_out: Ledger
    propensities: Propensities

    @property
    def counts(self) -> dict[str, Any]:
        """For a manifest and a report."""
        told = self.told
        return {
            "queries": int(told["query_id"].nunique()),
            "relevant": int((told["grade"] > 0).sum()),
            "negatives": int(told["negative"].sum()),
            "clicks": int(told["clicks"].sum()),
            "judged": int((told["judged"] > 0).sum()),
            "eta": self.propensities.eta,
            "propensities": {str(rank): value for rank, value in self.propensities.measured.items()},
            "left_out": self.left_out.as_dict(),
        }


def training_data(feedback: Feedback, dataset: Dataset, split: str, config: FeedbackConfig) -> TrainingData:
    """Queries, judgements and hard negatives for a split of a dataset.

    Args:
        feedback: What the log holds.
        dataset: The corpus, and queries that must not be learnt: those of every split but ``split`` and the generated
            ones.
        split: The training split; need not exist.
        config: How clicks are read.

    Raises:
        UserError: Nothing is left; the message says why. Or see ``propensities.by_swaps``.
    """
    searches = feedback.searches.values()
    propensity = propensities.by_swaps(searches) if config.swaps else Propensities(config.eta)
    told, left_out = estimate(searches, propensity, config), Ledger()
    if not any(search.clicks or search.judgements for search in searches):
        without = counted(len(searches), "search", "have")
        raise UserError(f"feedback: the log's {without} no click or judgement to learn from")
    told = _of_corpus(told, dataset, left_out)
    told = _joined(told, dataset, split)
    told = _without_held_out(told, dataset, split, config.query_threshold, left_out)
    told = _with_relevant(told, dataset, split, left_out)
    if told.empty:
        reasons = "; ".join(f"{count:,} x {reason}" for reason, count in left_out.counts.most_common(LEFT_OUT))
        raise UserError(f"feedback: no query is left to learn from; left out: {reasons}")
    return TrainingData(told.reset_index(drop=True), left_out, propensity)


def _of_corpus(told: pd.DataFrame, dataset: Dataset, left_out: Ledger) -> pd.DataFrame:
    """Rows of documents of this corpus; a document that is in passages stands for the one nearest to the query."""
    ids = told["doc_id"].unique().tolist()
    known = dataset.documents.intersection(ids)
    passages: dict[str, list[str]] = defaultdict(list)
    if dataset.parents is not None and (whole := set(ids) - known):
        for passage_id, parent in zip(dataset.documents, dataset.parents.to_pylist(), strict=True):
            if parent in whole:
                passages[parent].append(passage_id)
    mask = told["doc_id"].isin(known | set(passages))
    for doc_id in told.loc[~mask, "doc_id"].unique():
        left_out.add("document that the corpus does not have", doc_id)
    told = told[mask]
    if not passages:
        return told
    texts = dict(zip(told["query_id"], told["query"], strict=True))
    nearest = to_best(passages, dataset.documents, Texts.of(texts))
    pairs = zip(told["query_id"], told["doc_id"], strict=True)
    found = told.assign(doc_id=[nearest(query, doc)[0] if doc in passages else doc for query, doc in pairs])
    return found.drop_duplicates(["query_id", "doc_id"])


def _joined(told: pd.DataFrame, dataset: Dataset, split: str) -> pd.DataFrame:
    """Queries with the words of one that trains already are that query, whose own judgements stay."""
    judged = dataset.qrels.get(split, {})
    queries = dataset.queries.select([id_ for id_ in dataset.queries if id_ in judged])
    same = {normalised(text): id_ for id_, text in zip(queries.ids, queries.take(), strict=True)}
    words = told["query"].map(normalised)
    told = told.assign(query_id=words.map(same).fillna(told["query_id"]))
    own = [doc in judged.get(query, {}) for query, doc in zip(told["query_id"], told["doc_id"], strict=True)]
    return told[~pd.Series(own, index=told.index, dtype=bool)]


def _without_held_out(
    told: pd.DataFrame, dataset: Dataset, split: str, threshold: float, left_out: Ledger
) -> pd.DataFrame:
    """Queries that no other split asks, not even nearly so."""
    others = [name for name in dataset.qrels if name not in (split, generated.SPLIT)]
    held = [id_ for name in others for id_ in dataset.qrels[name]]
    asked = told.drop_duplicates("query_id")
    if not held or asked.empty:
        return told
    texts = Texts.from_records((id_, "", text) for id_, text in zip(asked["query_id"], asked["query"], strict=True))
    leaking = leakage.find_leaks(texts, asked["query_id"], dataset.queries, held, 1, threshold)
    for query in asked.loc[asked["query_id"].isin(leaking), "query"]:
        left_out.add("query that a split asks which does not train", query)
    return told[~told["query_id"].isin(leaking)]


def _with_relevant(told: pd.DataFrame, dataset: Dataset, split: str, left_out: Ledger) -> pd.DataFrame:
    """Queries with a relevant document, from feedback or from the split's own judgements."""
    judged = dataset.qrels.get(split, {})
    useful = set(told.loc[told["grade"] > 0, "query_id"])
    useful |= {id_ for id_ in told["query_id"].unique() if any(grade > 0 for grade in judged.get(id_, {}).values())}
    mask = told["query_id"].isin(useful)
    for query in told[~mask].drop_duplicates("query_id")["query"]:
        left_out.add("query without a relevant document", query)
    return told[mask]
