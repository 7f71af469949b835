"""Training groups: candidates, teacher scores and judgements of one query, by id.

A positive is known by its grade in the qrels, never by its place. Knows Runs and qrels; must not know tokens,
models or objectives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval.run import Run


@dataclass(frozen=True)
class Group:
    """One query's candidates; ``scores`` (teacher, raw) and ``grades`` are aligned with ``doc_ids``."""

    query_id: str
    doc_ids: tuple[str, ...]
    scores: tuple[float, ...]
    grades: tuple[int, ...]


def with_relevant(candidates: Run, qrels: Qrels) -> Run:
    """Candidates together with every judged relevant document, so that the teacher scores those too."""
    found = candidates.as_dict()
    merged = {
        query: {**{doc: 0.0 for doc, grade in judged.items() if grade > 0}, **found.get(query, {})}
        for query, judged in qrels.items()
        if query in found or any(grade > 0 for grade in judged.values())
    }
    return Run.from_dict(merged)


def build_groups(teacher_run: Run, qrels: Qrels) -> list[Group]:
    """A group per query that has a relevant document and at least one other.

    Args:
        teacher_run: Candidates under raw teacher scores, best first.
        qrels: Judgements of the training split.

    Raises:
        UserError: No query has both a relevant and another candidate.
    """
    groups = []
    for query_id, doc_ids, scores in teacher_run:
        judged = qrels.get(query_id, {})
        grades = tuple(max(judged.get(doc, 0), 0) for doc in doc_ids)
        if any(grades) and not all(grades):
            groups.append(Group(query_id, tuple(doc_ids), tuple(scores.tolist()), grades))
    if not groups:
        raise UserError(
            "no training query has both a relevant document and another candidate; "
            "check the qrels of the training split"
        )
    return groups


@dataclass(frozen=True)
class Draw:
    """What one group contributes to one step: its row in the list of groups, and which of its candidates."""

    group: int
    candidates: tuple[int, ...]


def schedule(groups: list[Group], steps: int, queries_per_step: int, candidates: int, seed: int) -> list[Draw]:
    """The whole training order, fixed by the seed: epochs of shuffled groups, fresh negatives each time.

    A draw holds one relevant candidate (each relevant one equally often over time) and ``candidates - 1`` others,
    the higher in the teacher's order the likelier (weight ``1 / (2 + rank)``), without repetition. Knowing every
    step beforehand is what makes a resumed training equal to an uninterrupted one.
    """
    rng = np.random.default_rng(seed)
    draws: list[Draw] = []
    while len(draws) < steps * queries_per_step:
        for group in rng.permutation(len(groups)):
            draws.append(Draw(int(group), _draw(groups[group], candidates, rng)))
    return draws[: steps * queries_per_step]


def _draw(group: Group, candidates: int, rng: np.random.Generator) -> tuple[int, ...]:
    relevant = [i for i, grade in enumerate(group.grades) if grade > 0]
    others = np.array([i for i, grade in enumerate(group.grades) if grade <= 0])
    weight = 1.0 / (2.0 + np.arange(len(others)))
    count = min(candidates - 1, len(others))
    drawn = rng.choice(others, count, replace=False, p=weight / weight.sum())
    return (int(rng.choice(relevant)), *sorted(int(i) for i in drawn))
