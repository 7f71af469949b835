"""Fits temperatures and ensemble weights on judged queries, and combines Runs by their weights.

Knows Runs and judgements; must not know models, stores, or how scores were normalised.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import minimize, minimize_scalar

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")

RIDGE = 1e-4
"""Penalty on half the squared weights, in units of each member's spread: small compared with the likelihood of any
informative member, but enough to give equal members equal weights and a perfect ranking a finite one."""

TEMPERATURES = (1e-3, 1e3)
"""Range of temperatures, in units of the scores' spread within queries."""


def combine(runs: Sequence[Run], weights: Sequence[float]) -> Run:
    """The weighted sum of Runs over the same pairs, aligned by id.

    Raises:
        UserError: The Runs hold different pairs.
    """
    if len(runs) != len(weights):
        raise ValueError(f"{len(runs)} runs but {len(weights)} weights: each run needs one")
    return runs[0].with_scores(_align(runs) @ np.asarray(weights, float))


def fit_temperature(run: Run, qrels: Qrels) -> float:
    """The temperature at which ``softmax(score / T)`` best predicts the relevant candidates.

    Minimises the mean over queries of the listwise negative log-likelihood, with a target uniform over the relevant
    candidates, and the same small ridge as ``fit_weights``, whose weight of one Run is ``1 / T``. A query is used if it
    has a relevant and another candidate. Multiplying scores by ``k`` multiplies ``T`` by ``k``.

    Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, there over classes, here
    over a query's candidates.

    Raises:
        UserError: No query is usable, or all scores within each query are equal.
    """
    lists = JudgedLists.of([run], qrels)
    if np.isinf(lists.units[0]):
        raise UserError("every candidate of a judged query has the same score: there is no temperature to fit")
    low, high = np.log(TEMPERATURES)
    found = minimize_scalar(
        lambda log: lists.penalised_loss(np.exp([-log]))[0],
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-8},
    )
    if high - found.x < 0.01:
        logger.warning(
            "relevant candidates of %d judged queries do not score higher than others: the temperature is so high that "
            "the teacher has no effect", len(lists),
        )  # fmt: skip
    return float(np.exp(found.x) * lists.units[0])


def fit_weights(runs: Sequence[Run], qrels: Qrels) -> np.ndarray:
    """The non-negative weights with which ``softmax(sum_i w_i s_i)`` best predicts the relevant candidates.

    A conditional logit (McFadden, "Conditional Logit Analysis of Qualitative Choice Behavior", 1974) with the same
    likelihood as ``fit_temperature``, which is convex. A small ridge gives equal members equal weights, and keeps
    weights finite if every judged query is ranked perfectly. If no member is informative, all get the same weight, with
    a warning.

    Args:
        runs: Normalised scores of each member over the same pairs.
        qrels: Judgements of those queries.

    Returns:
        float64 [members].

    Raises:
        UserError: No query is usable, or the Runs hold different pairs.
    """
    lists = JudgedLists.of(runs, qrels)
    # Starting from 0, uninformative members never move: their gradient is 0, or pushes against the bound.
    found = minimize(
        lists.penalised_loss,
        np.zeros(len(runs)),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * len(runs),
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    if not found.x.any():
        logger.warning(
            "no teacher tells relevant candidates from others on %d judged queries: equal weights", len(lists)
        )
        return np.full(len(runs), 1 / len(runs))
    return found.x / lists.units


@dataclass(frozen=True, eq=False)
class JudgedLists:
    """Candidates of the usable judged queries: those with a relevant and another candidate.

    Attributes:
        scores: float64 [rows, members], list after list; centred in each list, in ``units``.
        units: Each member's spread within lists, float64 [members]; infinite if all its scores in a list are equal.
        target: Target distribution of the likelihood, float64 [rows]; sums to 1 in each list.
        sizes: Rows of each list, int64 [queries].
    """

    scores: np.ndarray
    units: np.ndarray
    target: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[Run], qrels: Qrels) -> JudgedLists:
        """From one Run per member over the same pairs.

        Raises:
            UserError: No query is usable, or the Runs hold different pairs.
        """
        pairs = [(query, doc) for query, judged in qrels.items() for doc, grade in judged.items() if grade > 0]
        relevant = pd.MultiIndex.from_arrays([[query for query, _ in pairs], [doc for _, doc in pairs]])
        hit = _keys(runs[0]).isin(relevant)
        lists = pd.factorize(runs[0].frame["query_id"])[0]
        sizes, hits = np.bincount(lists), np.bincount(lists, weights=hit)
        usable = (hits > 0) & (hits < sizes)
        if not usable.any():
            raise UserError(
                "no judged query has both a relevant document and another one among its candidates, so nothing can be "
                "fitted; check the dev split's qrels, or choose a normalisation and weights that need no fit"
            )
        rows = np.argsort(lists, kind="stable")
        rows = rows[usable[lists[rows]]]
        sizes, scores = sizes[usable], _align(runs)[rows]
        starts = np.cumsum(sizes) - sizes
        centred = scores - np.repeat(np.add.reduceat(scores, starts) / sizes[:, None], sizes, axis=0)
        spread = np.sqrt((centred**2).mean(axis=0))
        # Equal scores differ from their mean by rounding; float32 scores cannot differ by as little.
        units = np.where(spread > 1e-9 * np.abs(scores).max(axis=0), spread, np.inf)
        return cls(centred / units, units, hit[rows] / hits[lists[rows]], sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def loss(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Mean negative log-likelihood under ``softmax(scores @ weights)``, and its gradient [members]."""
        starts = np.cumsum(self.sizes) - self.sizes
        logits = self.scores @ weights
        peaks = np.maximum.reduceat(logits, starts)
        odds = np.exp(logits - np.repeat(peaks, self.sizes))
        totals = np.add.reduceat(odds, starts)
        probabilities = odds / np.repeat(totals, self.sizes)
        loss = (np.log(totals) + peaks).sum() - self.target @ logits
        return float(loss / len(self)), (probabilities - self.target) @ self.scores / len(self)

    def penalised_loss(self, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """``loss`` with the ridge, and its gradient."""
        loss, gradient = self.loss(weights)
        return loss + RIDGE / 2 * float(weights @ weights), gradient + RIDGE * weights


def _keys(run: Run) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(run.frame[["query_id", "doc_id"]])


def _align(runs: Sequence[Run]) -> np.ndarray:
    """Scores of every Run in the rows of the first, float64 [pairs, members]."""
    keys, columns = _keys(runs[0]), [runs[0].frame["score"].to_numpy(float)]
    for run in runs[1:]:
        theirs = _keys(run)
        if len(theirs) != len(keys) or not (keys.is_unique and theirs.is_unique) or not keys.isin(theirs).all():
            raise UserError(
                f"the teachers' runs hold different pairs ({len(keys):,} and {len(theirs):,}); score the same "
                "candidates with every teacher"
            )
        columns.append(run.frame["score"].to_numpy(float)[theirs.get_indexer(keys)])
    return np.stack(columns, axis=1)
