"""The gate: a test on dev queries, before the costly stages, whether a teacher is better than what it would replace.

The teacher reranks each baseline's own best documents, so only the order is compared. If the calibration is fitted, it
is fitted on every second query and tested on the others. Knows Runs and judgements; must not know how they were made.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
import pandas as pd

from retrieval_distill.config import TeacherConfig
from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import (
    differences_with_intervals,
    minimum_detectable_difference,
    paired_p,
)
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import stages
from retrieval_distill.scores.teacher_contract import Teacher
from retrieval_distill.teacher.calibration.calibration import Calibration
from retrieval_distill.teacher.ensemble import Ensemble

logger = logging.getLogger("retrieval_distill")


class Verdict(TypedDict):
    """The result of :func:`judge` or :func:`agreement`."""

    measure: NotRequired[str]
    queries: int
    against: dict[str, dict[str, Any]]
    """Results by baseline."""
    better: bool | None
    """Whether the teacher is shown to be better than every baseline; ``None``: there were no judgements."""


@dataclass(frozen=True)
class Gate:
    """The gate's verdict, and the teachers' calibration.

    Args:
        verdict: The result of :func:`judge` or :func:`agreement`.
        calibration: The teachers' calibration, for all later scores.
        facts: ``pairs``, ``scored`` and ``stored``, as counted by scoring.
    """

    verdict: Verdict
    calibration: Calibration
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def better(self) -> bool | None:
        """Whether the teacher is shown to be better than every baseline; ``None``: there were no judgements."""
        return self.verdict["better"]

    def save(self, folder: str | Path) -> None:
        """Write ``gate.json`` and ``calibration.json``."""
        stages.write_json(Path(folder) / "gate.json", self.verdict)
        self.calibration.save(folder)

    @classmethod
    def open(cls, folder: str | Path) -> Gate:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: It is not there.
        """
        if not (Path(folder) / "gate.json").is_file():
            raise UserError(f"{folder}: no verdict of the gate there")
        return cls(stages.read_json(Path(folder) / "gate.json"), Calibration.open(folder))

    def summary(self, teacher: str) -> str:
        """The verdict as a sentence."""
        return _sentence(self.verdict, teacher)


def union(runs: Mapping[str, Run]) -> Run:
    """The distinct pairs of several Runs, which the teacher scores for :func:`judge` or :func:`agreement`."""
    frames = pd.concat([run.frame for run in runs.values()])
    pairs = frames.drop_duplicates(["query_id", "doc_id"])
    return Run.from_columns(pairs["query_id"], pairs["doc_id"], pairs["score"])


def needs_fit(config: TeacherConfig) -> bool:
    """Whether part of the calibration is fitted on judged queries."""
    weights = config.weights == "fitted" and len(config.members) > 1
    return weights or any(member.normalise == "temperature" for member in config.members)


def calibrate(
    teachers: Sequence[Teacher], raw: Sequence[Run], qrels: Qrels | None, config: TeacherConfig
) -> Calibration:
    """The teachers' calibration as the recipe asks for, fitted on ``qrels`` if necessary.

    Raises:
        UserError: A fit needs judgements and there are none, or a sigmoid cannot be undone.
    """
    weights = None if config.weights == "fitted" else [member.weight for member in config.members]
    normalise = [member.normalise for member in config.members]
    return Ensemble.fit(teachers, raw, qrels, normalise, weights, config.squashed).calibration


def decide(
    teachers: Sequence[Teacher],
    raw: Sequence[Run],
    baselines: Mapping[str, Run],
    qrels: Qrels | None,
    config: TeacherConfig,
    measure: str,
) -> tuple[Verdict, Calibration]:
    """Calibrate the teachers, and compare them with the baselines.

    Args:
        teachers: The members.
        raw: Each member's scores of the :func:`union` of the baselines.
        baselines: First-stage Runs by name.
        qrels: Judgements of their queries; ``None``: nothing can be fitted, and only agreement is reported.
        config: The recipe's teacher section.
        measure: Such as ``"nDCG@10"``.
    """
    if qrels is None:
        calibration = calibrate(teachers, raw, None, config)
        return agreement(calibration.apply(raw), baselines), calibration
    fitted_on = list(qrels)[::2] if needs_fit(config) else []
    fitting = {id_: qrels[id_] for id_ in fitted_on}
    calibration = calibrate(teachers, [run.select(fitted_on) for run in raw] if fitting else raw, fitting, config)
    judging = {id_: judged for id_, judged in qrels.items() if id_ not in fitting}
    baselines = {name: run.select(list(judging)) for name, run in baselines.items()}
    return judge(calibration.apply(raw).select(list(judging)), baselines, judging, measure), calibration


def judge(teacher: Run, baselines: Mapping[str, Run], qrels: Qrels, measure: str) -> Verdict:
    """Compare each baseline with its own documents in the teacher's order.

    Args:
        teacher: Teacher scores of every pair of the baselines.
        baselines: First-stage Runs by name, cut to the depth that is reranked.
        qrels: Judgements of the queries.
        measure: Such as ``"nDCG@10"``.

    Returns:
        ``measure``, ``queries``, ``against`` (by baseline: means of ``baseline`` and ``teacher``, their ``difference``
        with its 95 % interval ``low`` to ``high``, the paired ``p``, and ``detectable``, the difference that so many
        queries detect with a power of 80 %) and ``better``: whether every interval lies above 0. There is no correction
        for the number of baselines, because the teacher has to beat all of them.
    """
    against = {name: _compare(_reorder(run, teacher), run, qrels, measure) for name, run in baselines.items()}
    return {
        "measure": measure,
        "queries": len(qrels),
        "against": against,
        "better": all(comparison["low"] > 0 for comparison in against.values()),
    }


def agreement(teacher: Run, baselines: Mapping[str, Run]) -> Verdict:
    """Without judgements: how far the teacher would change each baseline's order.

    Returns:
        ``queries``, ``against`` (by baseline: ``same_first``, the share of queries whose best document stays, and
        ``spearman``, the mean rank correlation within queries) and ``better``: ``None``, unknown.
    """
    against = {}
    for name, run in baselines.items():
        both = run.frame.merge(teacher.frame, on=["query_id", "doc_id"], suffixes=("", "_teacher"))
        ranks = both.groupby("query_id")[["score", "score_teacher"]].rank()
        by_query = ranks.assign(query_id=both["query_id"]).groupby("query_id")
        spearman = by_query.apply(lambda rows: rows["score"].corr(rows["score_teacher"]))
        best = [both.loc[both.groupby("query_id")[column].idxmax(), "doc_id"] for column in ("score", "score_teacher")]
        against[name] = {
            "same_first": float((best[0].to_numpy() == best[1].to_numpy()).mean()),
            "spearman": float(np.nan_to_num(spearman.mean())),
        }
    return {"queries": len(teacher.query_ids), "against": against, "better": None}


def enforce(verdict: Verdict, rule: Literal["stop", "warn", "off"], teacher: str) -> None:
    """Log the verdict, and stop the run if the rule says so.

    Raises:
        UserError: The rule is ``stop`` and the teacher is not shown to be better.
    """
    line = _sentence(verdict, teacher)
    if verdict["better"]:
        logger.info(line)
    elif verdict["better"] is None:
        logger.warning(line)
    elif rule == "stop":
        choices = "use another teacher, fit one (fit-teacher), or set teacher.gate=warn"
        raise UserError(f"{line}, so nothing is trained; {choices}")
    else:
        logger.warning("%s; the student may learn little from it", line)


def _compare(ours: Run, theirs: Run, qrels: Qrels, measure: str) -> dict[str, Any]:
    a, b = (evaluate(run, qrels, [measure])[measure].to_numpy() for run in (ours, theirs))
    p = paired_p(a, b)
    difference = differences_with_intervals({"": a - b}, {"": p})[""]  # of the same test, so that it agrees with p
    detectable = minimum_detectable_difference(a - b)
    return {
        "baseline": float(b.mean()),
        "teacher": float(a.mean()),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "p": p,
        "detectable": detectable if np.isfinite(detectable) else None,
    }


def _reorder(run: Run, teacher: Run) -> Run:
    """A Run's documents with the teacher's scores."""
    pairs = run.frame[["query_id", "doc_id"]].merge(teacher.frame, on=["query_id", "doc_id"], how="left")
    return Run.from_columns(pairs["query_id"], pairs["doc_id"], pairs["score"])


def _sentence(verdict: Verdict, teacher: str) -> str:
    if verdict["better"] is None:
        parts = [
            f"{name} (best document kept for {found['same_first']:.0%} of the queries, rank correlation "
            f"{found['spearman']:.2f})"
            for name, found in verdict["against"].items()
        ]
        return (
            f"gate: there are no judged dev queries, so whether the teacher {teacher!r} is better here is unknown; on "
            f"{counted(verdict['queries'], 'training query')} it reorders {' and '.join(parts)}"
        )
    parts = [
        f"{name} {found['baseline']:.3f} -> {found['teacher']:.3f} ({found['difference']:+.3f}, 95 % interval "
        f"{found['low']:+.3f} to {found['high']:+.3f})"
        for name, found in verdict["against"].items()
    ]
    shown = "better" if verdict["better"] else f"not shown to be better{_detectable(verdict)}"
    return (
        f"gate: on {counted(verdict['queries'], 'dev query')} the teacher {teacher!r}, reordering each one's best "
        f"documents, changes {verdict['measure']} of {', of '.join(parts)}: {shown}"
    )


def _detectable(verdict: Verdict) -> str:
    """The detectable difference, so that too few queries are not mistaken for a bad teacher."""
    needed = [found["detectable"] for found in verdict["against"].values() if found["detectable"]]
    return f" (so many queries reliably show differences of at least {max(needed):.3f})" if needed else ""
