"""Where one system beats another: the paired difference with its doubt, query by query, and examples to read.

Knows values per query, Runs, judgements and texts; must not know folders, models or how a page looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from retrieval_distill.data.dataset import Dataset, Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.significance import differences_with_intervals, paired_p
from retrieval_distill.reporting.rankings import Document, document


@dataclass(frozen=True)
class Difference:
    """``ours - theirs`` per query: the mean, its 95 % interval and p, corrected alike; ``values`` by query id."""

    ours: str
    theirs: str
    values: pd.Series
    mean: float
    low: float
    high: float
    p: float

    @property
    def won(self) -> int:
        """Queries that ``ours`` answers better."""
        return int((self.values > 0).sum())

    @property
    def lost(self) -> int:
        """Queries that ``theirs`` answers better."""
        return int((self.values < 0).sum())

    @property
    def equal(self) -> int:
        """Queries that both answer equally well."""
        return len(self.values) - self.won - self.lost


def difference(
    ours: str, theirs: str, a: pd.Series, b: pd.Series, known: Mapping[str, float] | None = None
) -> Difference:
    """Compare two systems.

    Args:
        ours: A system.
        theirs: Another one.
        a: Values of ``ours`` by query id.
        b: Values of ``theirs`` for the same ids in the same order.
        known: ``mean``, ``low``, ``high`` and ``p`` where they are known, as they are to a report that corrected them
            for all its comparisons; ``None``: this comparison is taken to be the only one.
    """
    values = a - b
    if known is None:
        p = {"": paired_p(a.to_numpy(), b.to_numpy())}
        known = {**asdict(differences_with_intervals({"": values.to_numpy()}, p)[""]), "p": p[""]}
    return Difference(ours, theirs, values, known["mean"], known["low"], known["high"], known["p"])


@dataclass(frozen=True)
class First:
    """What one system ranked first for a query: a ``document``, ``None`` where it found nothing;
    the measure's ``value``, and the rank of the first relevant document, ``None`` where none was found.
    """

    system: str
    document: Document | None
    value: float
    relevant_at: int | None


@dataclass(frozen=True)
class Example:
    """A query, how far two systems differ on it, and what each ranked first."""

    query_id: str
    query: str
    difference: float
    firsts: list[First]


def examples(
    compared: Difference, paired: pd.DataFrame, runs: Mapping[str, Run], dataset: Dataset, qrels: Qrels, count: int = 3
) -> tuple[list[Example], list[Example]]:
    """The queries of the largest wins and of the largest losses, ``count`` of each; equal ones by query id.

    Args:
        compared: Chooses the queries.
        paired: A row per query, a column per system: their values.
        runs: Results by system.
        dataset: Texts.
        qrels: Judgements of these queries.
        count: How many of either.
    """
    by_id = compared.values.sort_index()
    wins, losses = (
        by_id[by_id * sign > 0].sort_values(ascending=sign < 0, kind="stable").head(count) for sign in (1, -1)
    )
    chosen = [*wins.index, *losses.index]
    found = {name: {query: (docs, scores) for query, docs, scores in run.select(chosen)} for name, run in runs.items()}

    def example(query_id: str) -> Example:
        query, judged = dataset.queries[query_id], qrels[query_id]
        firsts = []
        for name, results in found.items():
            docs, scores = results.get(query_id, ([], np.empty(0)))
            kept = [(doc, float(score)) for doc, score in zip(docs, scores, strict=True)]
            best = document(*kept[0], query, dataset, judged) if kept else None
            relevant_at = next((rank for rank, (doc, _) in enumerate(kept, 1) if judged.get(doc, 0) > 0), None)
            firsts.append(First(name, best, float(paired.loc[query_id, name]), relevant_at))
        return Example(query_id, query, float(compared.values[query_id]), firsts)

    return [example(query) for query in wins.index], [example(query) for query in losses.index]
