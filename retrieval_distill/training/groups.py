"""Training groups: candidates, teacher scores and judgements of one query, by id.

A positive is identified by its grade in the qrels, never by its position. Knows Runs and qrels; must not know tokens,
models or objectives.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.training.query_order import Order, shuffle_epochs

logger = logging.getLogger("retrieval_distill")

SHOWN = 3
"""Number of query ids shown in a warning."""


@dataclass(frozen=True)
class Group:
    """One query's candidates; ``scores`` (teacher, raw) and ``grades`` are aligned with ``doc_ids``."""

    query_id: str
    doc_ids: tuple[str, ...]
    scores: tuple[float, ...]
    grades: tuple[int, ...]


def build_groups(teacher_run: Run, qrels: Qrels) -> list[Group]:
    """One group for each query with a relevant and another candidate; a warning counts and names the other queries.

    Args:
        teacher_run: Candidates under raw teacher scores, best first.
        qrels: Judgements of the training split.

    Raises:
        UserError: No query has both a relevant and another candidate.
    """
    groups: list[Group] = []
    left_out: dict[str, list[str]] = {}
    for query_id, doc_ids, scores in teacher_run:
        judged = qrels.get(query_id, {})
        grades = tuple(max(judged.get(doc, 0), 0) for doc in doc_ids)
        if reason := _exclusion_reason(grades):
            left_out.setdefault(reason, []).append(query_id)
        else:
            groups.append(Group(query_id, tuple(doc_ids), tuple(scores.tolist()), grades))
    for reason, ids in left_out.items():
        logger.warning("training queries left out because %s: %s", reason, summarize_ids(ids))
    if not groups:
        raise UserError(
            "no training query has both a relevant document and another candidate; "
            "check the qrels of the training split"
        )
    return groups


def _exclusion_reason(grades: Sequence[int]) -> str | None:
    """Why a query cannot be trained on; ``None`` if it can."""
    if len(grades) < 2:
        return "they have only one candidate"
    if not any(grades):
        return "none of their candidates is judged relevant"
    return "all their candidates are judged relevant" if all(grades) else None


def uniformly_scored(groups: Sequence[Group]) -> list[str]:
    """Queries whose candidates all have the same teacher score, which teach that no candidate is better."""
    return [group.query_id for group in groups if min(group.scores) == max(group.scores)]


def summarize_ids(ids: Sequence[str]) -> str:
    """Count and first few ids: ``"5 (q1, q2, q3, ...)"``."""
    return f"{len(ids):,} ({', '.join(ids[:SHOWN])}{', ...' if len(ids) > SHOWN else ''})"


@dataclass(frozen=True)
class Draw:
    """The candidates of one group in one step: the group's index, and the indices of its candidates."""

    group: int
    candidates: tuple[int, ...]


def schedule(
    groups: list[Group],
    steps: int,
    queries_per_step: int,
    candidates: int,
    seed: int,
    order: Order | None = None,
    easy_to_hard: bool = False,
    stratified: bool = False,
) -> list[Draw]:
    """The whole training order, fixed by the seed: epochs of shuffled groups, with fresh negatives each time.

    A draw has one relevant candidate, chosen uniformly, and ``candidates - 1`` others without replacement, with
    probability proportional to ``1 / (2 + rank)`` in the teacher's order. Because every step is known beforehand, a
    resumed training equals an uninterrupted one.

    With a curriculum, the most likely rank moves from the end of the teacher's order, where candidates are easy to tell
    from the relevant one, to its head: weight ``1 / (2 + |rank - r|)``, where ``r`` falls linearly from the last rank
    to 0. Source: Zeng et al., "Curriculum Learning for Dense Retrieval Distillation", 2022, arXiv:2204.13679.

    With stratified sampling, the range of the teacher scores is divided into ``candidates - 1`` bins of equal width,
    and one candidate is drawn from each, so that a step covers the whole range and not only the hardest negatives; for
    an empty bin, the candidate nearest to its middle is taken. Source: "Beyond Hard Negatives: The Importance of Score
    Distribution in Knowledge Distillation for Dense Retrieval", SIGIR 2026, arXiv:2604.04734 (draws that cover the
    range evenly; the bins are ours).

    Args:
        groups: The groups to draw from.
        steps: Number of batches.
        queries_per_step: Queries per batch.
        candidates: Candidates per query.
        seed: Random seed.
        order: Order of the groups, see :func:`retrieval_distill.training.query_order.order`. ``None``: epochs of all
            groups, shuffled.
        easy_to_hard: Whether to use the curriculum.
        stratified: Whether to use stratified sampling; excludes the curriculum.
    """
    rng = np.random.default_rng(seed)
    rows = shuffle_epochs(np.arange(len(groups)), rng) if order is None else order(rng)
    count = steps * queries_per_step
    ease = np.linspace(1, 0, count) if easy_to_hard else np.zeros(count)
    return [
        Draw(group, _draw(groups[group], candidates, easy, stratified, rng))
        for group, easy in zip(islice(rows, count), ease, strict=True)
    ]


def _draw(group: Group, candidates: int, ease: float, stratified: bool, rng: np.random.Generator) -> tuple[int, ...]:
    relevant = [i for i, grade in enumerate(group.grades) if grade > 0]
    others = np.array([i for i, grade in enumerate(group.grades) if grade <= 0])
    count = min(candidates - 1, len(others))
    if stratified:
        chosen = others[_stratified_sample(np.array(group.scores)[others], count, rng)]
    else:
        weight = 1.0 / (2.0 + np.abs(np.arange(len(others)) - ease * (len(others) - 1)))
        chosen = rng.choice(others, count, replace=False, p=weight / weight.sum())
    return (int(rng.choice(relevant)), *sorted(int(i) for i in chosen))


def _stratified_sample(scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of ``count`` scores, one drawn from each bin of their range, or the nearest score for an empty bin."""
    order = rng.permutation(len(scores))
    half = np.ptp(scores) / count / 2
    middles = scores.min() + half * (2 * np.arange(count) + 1)
    distances = (np.abs(scores[order] - middles[:, None]) - half * (1 + 1e-9)).clip(min=0)  # [bins, scores]
    chosen: list[int] = []
    for part in np.argsort(distances.min(axis=1) > 0, kind="stable"):  # bins that are not empty come first
        chosen.append(int(np.argmin(distances[part])))
        distances[:, chosen[-1]] = np.inf
    return order[chosen]
