"""Drops generated queries that are too short, too long, ambiguous, or leaked from a held-out split.

Knows tables of queries; must not know how they were generated.
"""

from __future__ import annotations

import pandas as pd

from retrieval_distill.config import GenerateConfig
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.prepare import leakage
from retrieval_distill.data.prepare.words import words

WITHOUT = {
    "titles": "document without a title, or with nothing else",
    "headings": "document without headings",
    "sentences": "document of a single sentence",
    "summary": "document of a single sentence",
}
"""Way -> why a document gives it no query; of others, such as models, that is not known."""


def keep(made: pd.DataFrame, mask: pd.Series, reason: str, dropped: Ledger) -> pd.DataFrame:
    """The rows where ``mask`` is true; the others are counted in ``dropped``, by way, under ``reason``."""
    for way, doc_id in made.loc[~mask, ["way", "doc_id"]].itertuples(index=False):
        dropped.add(f"{way}: {reason}", doc_id)
    return made[mask]


def by_text(made: pd.DataFrame, config: GenerateConfig, dropped: Ledger) -> pd.DataFrame:
    """Distinct queries of suitable length that belong to a single document.

    Args:
        made: Columns ``way``, ``doc_id`` and ``query``; a document without queries has a row without a query.
        config: The length limits.
        dropped: Counts the dropped queries.
    """
    for way in made["way"].unique():
        fits = made["query"].notna() | (made["way"] != way)
        made = keep(made, fits, WITHOUT.get(way, "document without a query"), dropped)
    found = made["query"].map(words)
    made = made.assign(words=found.map(" ".join), length=found.map(len))
    made = keep(made, made["length"] >= config.min_words, f"query of fewer than {config.min_words} words", dropped)
    made = keep(made, made["length"] <= config.max_words, f"query of more than {config.max_words} words", dropped)
    documents = made.groupby("words")["doc_id"].transform("nunique")
    made = keep(made, documents == 1, "query that several documents give", dropped)
    made = keep(made, ~made["words"].duplicated(), "query that its document gave before", dropped)
    return made.drop(columns=["words", "length"])


def by_leakage(made: pd.DataFrame, dataset: Dataset, config: GenerateConfig, dropped: Ledger) -> pd.DataFrame:
    """Queries that do not occur, even nearly so, in a held-out split. ``made`` has a column ``query_id``."""
    held = [id_ for split in config.held_out if split in dataset.qrels for id_ in dataset.qrels[split]]
    if not held or made.empty:
        return made
    texts = Texts.from_records((id_, "", text) for id_, text in zip(made["query_id"], made["query"], strict=True))
    leaking = leakage.find_leaks(texts, made["query_id"], dataset.queries, held, 1, config.query_threshold)
    return keep(made, ~made["query_id"].isin(leaking), "query that a held-out split asks", dropped)
