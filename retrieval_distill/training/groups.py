"""Training groups: candidates, teacher scores and judgements of one query, by id.

A positive is known by its grade in the qrels, never by its place. Knows Runs and qrels; must not know tokens,
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
from retrieval_distill.training.query_order import Order, shuffled

logger = logging.getLogger("retrieval_distill")

NAMED = 3
"""Queries that a warning names."""


@dataclass(frozen=True)
class Group:
    """One query's candidates; ``scores`` (teacher, raw) and ``grades`` are aligned with ``doc_ids``."""

    query_id: str
    doc_ids: tuple[str, ...]
    scores: tuple[float, ...]
    grades: tuple[int, ...]


def build_groups(teacher_run: Run, qrels: Qrels) -> list[Group]:
    """A group per query that has a relevant document and at least one other; a warning counts and names the rest.

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
        if fault := _fault(grades):
            left_out.setdefault(fault, []).append(query_id)
        else:
            groups.append(Group(query_id, tuple(doc_ids), tuple(scores.tolist()), grades))
    for fault, ids in left_out.items():
        logger.warning("training queries left out because %s: %s", fault, counted(ids))
    if not groups:
        raise UserError(
            "no training query has both a relevant document and another candidate; "
            "check the qrels of the training split"
        )
    return groups


def _fault(grades: Sequence[int]) -> str | None:
    """Why a query's candidates teach nothing."""
    if len(grades) < 2:
        return "they have one candidate only"
    if not any(grades):
        return "none of their candidates is judged relevant"
    return "all their candidates are judged relevant" if all(grades) else None


def indifferent(groups: Sequence[Group]) -> list[str]:
    """The queries all of whose candidates the teacher scores alike: they teach that no candidate is better."""
    return [group.query_id for group in groups if min(group.scores) == max(group.scores)]


def counted(ids: Sequence[str]) -> str:
    """How many, and the first by name: ``"5 (q1, q2, q3, ...)"``."""
    return f"{len(ids):,} ({', '.join(ids[:NAMED])}{', ...' if len(ids) > NAMED else ''})"


@dataclass(frozen=True)
class Draw:
    """What one group contributes to one step: its row in the list of groups, and which of its candidates."""

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
    """The whole training order, fixed by the seed: epochs of shuffled groups, fresh negatives each time.

    A draw holds one relevant candidate (each relevant one equally often over time) and ``candidates - 1`` others,
    the higher in the teacher's order the likelier (weight ``1 / (2 + rank)``), without repetition. Knowing every
    step beforehand is what makes a resumed training equal to an uninterrupted one.

    A curriculum moves what is likeliest from the end of the teacher's order, where candidates are easy to tell from
    the relevant one, to its head (weight ``1 / (2 + |rank - r|)``, ``r`` falling linearly from the last rank to 0).
    Source: Zeng et al., "Curriculum Learning for Dense Retrieval Distillation", 2022, arXiv:2204.13679.

    Stratified, the others come one from each of ``candidates - 1`` equal parts of the range of their teacher scores, so
    that a step shows how good and bad they are and not only the best; where a part holds none, the one nearest to its
    middle. Source: "Beyond Hard Negatives: The Importance of Score Distribution in Knowledge Distillation for Dense
    Retrieval", SIGIR 2026, arXiv:2604.04734 (draws that cover the range evenly; the parts are ours).

    Args:
        groups: What is drawn from.
        steps: Batches.
        queries_per_step: Queries of a batch.
        candidates: Candidates of a query and batch.
        seed: Of every draw.
        order: Draws the groups, see :func:`retrieval_distill.training.query_order.order`. ``None``: epochs of all,
            shuffled.
        easy_to_hard: The curriculum.
        stratified: Whether the others cover the range of their scores; not together with the curriculum.
    """
    rng = np.random.default_rng(seed)
    drawn = shuffled(np.arange(len(groups)), rng) if order is None else order(rng)
    count = steps * queries_per_step
    ease = np.linspace(1, 0, count) if easy_to_hard else np.zeros(count)
    return [
        Draw(group, _draw(groups[group], candidates, easy, stratified, rng))
        for group, easy in zip(islice(drawn, count), ease, strict=True)
    ]


def _draw(group: Group, candidates: int, ease: float, stratified: bool, rng: np.random.Generator) -> tuple[int, ...]:
    relevant = [i for i, grade in enumerate(group.grades) if grade > 0]
    others = np.array([i for i, grade in enumerate(group.grades) if grade <= 0])
    count = min(candidates - 1, len(others))
    if stratified:
        drawn = others[_of_each_part(np.array(group.scores)[others], count, rng)]
    else:
        weight = 1.0 / (2.0 + np.abs(np.arange(len(others)) - ease * (len(others) - 1)))
        drawn = rng.choice(others, count, replace=False, p=weight / weight.sum())
    return (int(rng.choice(relevant)), *sorted(int(i) for i in drawn))


def _of_each_part(scores: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Places of ``count`` scores, one in each equal part of their range, drawn; an empty part's are the nearest."""
    order = rng.permutation(len(scores))
    half = np.ptp(scores) / count / 2
    middles = scores.min() + half * (2 * np.arange(count) + 1)
    beyond = (np.abs(scores[order] - middles[:, None]) - half * (1 + 1e-9)).clip(min=0)  # [parts, scores]
    drawn: list[int] = []
    for part in np.argsort(beyond.min(axis=1) > 0, kind="stable"):  # parts that hold some come first
        drawn.append(int(np.argmin(beyond[part])))
        beyond[:, drawn[-1]] = np.inf
    return order[drawn]
