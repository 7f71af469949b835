"""The mining report: what each retriever contributed, and how the teacher scores the negatives.

Knows Runs and judgements; must not know how a list was made or used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.relevance import PAIR, relevance
from retrieval_distill.data.run import Run
from retrieval_distill.formatting import counted
from retrieval_distill.mining.negative_filters import with_positives

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def of_lists(lists: Mapping[str, Run], drawn: Mapping[str, Run], qrels: Qrels) -> dict[str, Any]:
    """What the retrievers found, as a JSON value.

    Args:
        lists: Retriever -> its list.
        drawn: Source -> the candidates drawn from it.
        qrels: Judgements of the queries.

    Returns:
        ``retrievers``: by name, ``documents`` (total in its lists), ``found_by`` (the share of them that each other
        retriever, or ``any``, found too) and ``positives`` (``share`` of the relevant documents found, and quantiles of
        their ``ranks``, from 1). ``drawn``: number of documents by source.
    """
    pairs = {name: pd.MultiIndex.from_frame(run.frame[PAIR]) for name, run in lists.items()}
    retrievers = {}
    for name, own in pairs.items():
        others = {other: own.isin(theirs) for other, theirs in pairs.items() if other != name}
        found_by = {other: _share(found) for other, found in others.items()}
        if others:
            found_by["any"] = _share(np.any(list(others.values()), axis=0))
        positives = _positives(lists[name], qrels)
        retrievers[name] = {"documents": len(own), "found_by": found_by, "positives": positives}
    return {"retrievers": retrievers, "drawn": {source: len(run) for source, run in drawn.items()}}


def of_scores(scored: Run, qrels: Qrels) -> dict[str, Any]:
    """How the teacher scores the negatives, as a JSON value.

    Args:
        scored: Candidates with a teacher's scores.
        qrels: Which of them are relevant.

    Returns:
        ``negatives``: their number. ``false_negatives``: the share of them that the teacher scores at least as high as
        the positive (the query's relevant document with the lowest score). ``margins``: quantiles of the positive's
        score minus the negative's. Queries without a positive are left out of both.
    """
    pairs = with_positives(scored, qrels)
    negatives = pairs[~pairs["relevant"]]
    margins = (negatives["positive"] - negatives["score"]).dropna()
    return {
        "negatives": len(negatives),
        "false_negatives": _share(margins <= 0),
        "margins": _quantiles(margins),
    }


def lists_table(found: Mapping[str, Any]) -> str:
    """:func:`of_lists` as a table of text."""
    lines = [f"{'retriever':24} {'documents':>10} {'found by others':>16} {'positives found':>16} {'median rank':>12}"]
    for name, row in found["retrievers"].items():
        ranks = row["positives"]["ranks"]
        cells = (_percent(row["found_by"].get("any")), _percent(row["positives"]["share"]))
        lines.append(
            f"{name:24} {row['documents']:10,} {cells[0]:>16} {cells[1]:>16} "
            f"{'' if ranks is None else format(ranks['0.5'], '.0f'):>12}"
        )
    return "\n".join([*lines, "drawn: " + ", ".join(f"{n:,} x {source}" for source, n in found["drawn"].items())])


def pairs_line(queries: int, pairs: int, beyond: int, option: str) -> str:
    """The number of pairs to score, and of relevant documents that an option left out."""
    each = f"{counted(pairs, 'pair')} of {counted(queries, 'query')} to score"
    return f"{each}; {counted(beyond, 'more relevant document', 'are')} left out ({option})" if beyond else each


def scores_line(found: dict[str, Any]) -> str:
    """:func:`of_scores` as a line of text."""
    if found["margins"] is None:
        return f"{counted(found['negatives'], 'negative')}, but no query has a scored relevant document"
    low, median, high = (found["margins"][key] for key in ("0.05", "0.5", "0.95"))
    return (
        f"{counted(found['negatives'], 'negative')}; the teacher scores "
        f"{_percent(found['false_negatives'])} of them at least as high as the positive; margins to it: "
        f"median {median:.2f}, 90 % between {low:.2f} and {high:.2f}"
    )


def _positives(run: Run, qrels: Qrels) -> dict[str, Any]:
    ranks = run.frame.groupby("query_id", sort=False).cumcount() + 1
    judged = sum(grade > 0 for docs in qrels.values() for grade in docs.values())
    found = ranks[relevance(run, qrels)]
    return {"share": len(found) / judged if judged else None, "ranks": _quantiles(found)}


def _quantiles(values: pd.Series) -> dict[str, float] | None:
    return {str(q): float(values.quantile(q)) for q in QUANTILES} if len(values) else None


def _share(found: Any) -> float | None:
    return float(np.mean(found)) if len(found) else None


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
