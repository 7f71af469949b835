"""Fidelity of a student to its teacher: agreement of their rankings, and the share of the gain that is kept.

Both score the same pool: the documents that the teacher reranked for the test queries. Knows Runs and numbers; must
not know models, texts or reports.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax
from scipy.stats import entropy, kendalltau, spearmanr

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import Mean, mean_with_interval, ratio_with_interval

TOP = (1, 3, 10)
"""Depths K of ``overlap@K``."""


def per_query(teacher: Run, student: Run, teacher_temperature: float, student_temperature: float) -> pd.DataFrame:
    """Agreement of two scorers of the same pairs, query by query.

    Args:
        teacher: The teacher's scores of the pool.
        student: The student's scores of the same pairs.
        teacher_temperature: The teacher's distribution over a query's pool is ``softmax(scores / temperature)``.
        student_temperature: The same for the student.

    Returns:
        Index ``query_id``; columns ``kl`` (KL(teacher, student) in nats), ``spearman``, ``kendall`` (tau-b), both NaN
        if all scores of one side are equal, and ``overlap@K``: the share of the teacher's best K that are among the
        student's best K (of the whole pool if it is smaller).

    Raises:
        UserError: The Runs do not hold the same pairs.
    """
    rows = {query_id: _agreement(*scores, teacher_temperature, student_temperature)
            for query_id, scores in _pair_scores(teacher, student)}  # fmt: skip
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("query_id")


def summarise(agreement: pd.DataFrame) -> dict[str, Any]:
    """Means of :func:`per_query` with 95 % bootstrap intervals over queries.

    Returns:
        ``queries``, ``kl``, ``spearman``, ``kendall``, and ``overlap`` by depth (``"1"``, ``"3"``, ``"10"``); a mean is
        one over the queries that have a value, ``None`` if none has.
    """
    means = {column: _mean(agreement[column].dropna().to_numpy()) for column in agreement.columns}
    overlap = {column.partition("@")[2]: means.pop(column) for column in list(means) if column.startswith("overlap@")}
    return {"queries": len(agreement), **means, "overlap": overlap}


def gain(values: Mapping[str, np.ndarray]) -> dict[str, Mean | None]:
    """The student's share of the teacher's quality and of its gain, from one measure's values by query.

    Args:
        values: ``student``, ``teacher`` and ``start`` over the same queries.

    Returns:
        ``retention`` (student / teacher) and ``gain_kept`` ((student - start) / (teacher - start)), with a 95 %
        bootstrap interval over queries; ``None`` if the denominator is not significantly above 0.
    """
    student, teacher, start = (np.asarray(values[name]) for name in ("student", "teacher", "start"))
    return {
        "retention": ratio_with_interval(student, teacher),
        "gain_kept": ratio_with_interval(student - start, teacher - start),
    }


def worst(agreement: pd.DataFrame, count: int = 10) -> list[str]:
    """The queries whose distributions differ most (by ``kl``), worst first."""
    return agreement["kl"].nlargest(count).index.tolist()


def _pair_scores(teacher: Run, student: Run) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """(query id, scores of both) of each query, in the teacher's order."""
    both = teacher.frame.merge(student.frame, on=["query_id", "doc_id"], how="outer", suffixes=("", "_student"))
    if len(both) != len(teacher) or both["score"].isna().any() or both["score_student"].isna().any():
        raise UserError("teacher and student have not scored the same pairs; score one pool with both")
    by_query = dict(list(both.groupby("query_id", sort=False)))
    for query_id in teacher.query_ids:
        rows = by_query[query_id].sort_values("score", ascending=False, kind="stable")
        yield query_id, (rows["score"].to_numpy(), rows["score_student"].to_numpy())


def _agreement(
    teacher: np.ndarray, student: np.ndarray, teacher_temperature: float, student_temperature: float
) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal scores have no correlation, which is NaN
        correlations = {"spearman": spearmanr(teacher, student), "kendall": kendalltau(teacher, student)}
    best, others = (np.argsort(-scores, kind="stable") for scores in (teacher, student))
    shared = {f"overlap@{k}": len(np.intersect1d(best[:k], others[:k])) / min(k, len(teacher)) for k in TOP}
    return {
        "kl": float(entropy(softmax(teacher / teacher_temperature), softmax(student / student_temperature))),
        **{name: float(found.statistic) for name, found in correlations.items()},
        **shared,
    }


def _mean(values: np.ndarray) -> Mean | None:
    return mean_with_interval(values) if len(values) else None
