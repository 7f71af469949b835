"""Several teachers as one: raw scores of each member, through the store, calibrated into one Run.

Knows the teacher's contract, scoring and calibration; must not know the kinds of teacher, except that scores of
bi-encoders and BM25 are never probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.runtime import stages
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.scores.teacher_contract import Teacher
from retrieval_distill.teacher import scoring
from retrieval_distill.teacher.calibration.calibration import Calibration, Squashed

COUNTS = ("pairs", "scored", "stored")

NO_PROBABILITIES = ("bi-encoder", "bm25")
"""Kinds whose scores may all lie between 0 and 1 without being squashed by a sigmoid."""


@dataclass(frozen=True)
class Ensemble:
    """Teachers and their calibration; a single teacher is an ensemble of one."""

    teachers: tuple[Teacher, ...]
    calibration: Calibration

    def __post_init__(self) -> None:
        if len(self.teachers) != len(self.calibration.members):
            raise ValueError(f"{len(self.teachers)} teachers, but {len(self.calibration.members)} calibrated members")

    @classmethod
    def fit(
        cls,
        teachers: Sequence[Teacher],
        raw_dev: Sequence[Run] | None,
        qrels: Qrels | None,
        normalise: Sequence[str],
        weights: Sequence[float] | None,
        squashed: Squashed,
    ) -> Ensemble:
        """Fit the calibration with ``Calibration.fit``; scores of bi-encoders and BM25 are never taken for squashed.

        Raises:
            UserError: As ``Calibration.fit``.
        """
        kinds = [teacher.description.get("kind") for teacher in teachers]
        rules: list[Squashed] = ["keep" if kind in NO_PROBABILITIES else squashed for kind in kinds]
        return cls(tuple(teachers), Calibration.fit(raw_dev, qrels, normalise, weights, rules))

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes a calibrated score."""
        members = [teacher.fingerprint for teacher in self.teachers]
        return stages.fingerprint({"members": members, "calibration": self.calibration.to_json()})

    @property
    def description(self) -> dict[str, Any]:
        """Facts for people: ``kind``, ``model`` (of all members), and each member's description and calibration."""
        members = [
            {**teacher.description, "calibration": asdict(member)}
            for teacher, member in zip(self.teachers, self.calibration.members, strict=True)
        ]
        return {"kind": "ensemble", "model": " + ".join(str(m.get("model")) for m in members), "members": members}


def raw_scores(
    run: Run, queries: Texts, documents: Texts, teachers: Sequence[Teacher], store: ScoreStore
) -> tuple[list[Run], dict[str, Any]]:
    """Each teacher's raw Run, and counts as of :func:`score`.

    Raises:
        UserError: As ``scoring.score``.
    """
    scored = [scoring.score(run, queries, documents, teacher, store) for teacher in teachers]
    members = [counts for _, counts in scored]
    return [raw for raw, _ in scored], {**{n: sum(c[n] for c in members) for n in COUNTS}, "members": members}


def score(
    run: Run, queries: Texts, documents: Texts, ensemble: Ensemble, store: ScoreStore
) -> tuple[Run, dict[str, Any]]:
    """Score every pair of a Run with calibrated scores; the store keeps the raw ones.

    Args:
        run: The pairs; their scores do not matter.
        queries: Texts of the run's queries.
        documents: Texts of the run's documents.
        ensemble: Members score only pairs that are not in the store.
        store: Keeps raw scores, by member.

    Returns:
        The rescored Run, and counts: ``pairs``, ``scored`` and ``stored`` over all members, and per member under
        ``members``.

    Raises:
        UserError: As ``scoring.score`` and ``Calibration.apply``.
    """
    raw, counts = raw_scores(run, queries, documents, ensemble.teachers, store)
    return ensemble.calibration.apply(raw), counts
