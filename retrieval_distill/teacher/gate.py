"""The gate: is this teacher better than the start model *here*? Asked on judged dev queries before training.

Knows Runs and judgements; must not know how they were made.
"""

from __future__ import annotations

import logging
from typing import Any, Literal

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import mean_with_interval, paired_p
from retrieval_distill.retrieval.run import Run

logger = logging.getLogger("retrieval_distill")


def judge(teacher: Run, start: Run, qrels: Qrels, measure: str) -> dict[str, Any]:
    """Compare the teacher's reranking with the start model's ranking over the same queries.

    Returns:
        ``measure``, ``queries``, means of ``teacher`` and ``start``, their ``difference`` with its 95 % interval
        (``low``, ``high``), the paired ``p``, and ``better``: whether the interval lies above 0.
    """
    ours, theirs = (evaluate(run, qrels, [measure])[measure].to_numpy() for run in (teacher, start))
    difference = mean_with_interval(ours - theirs)
    return {
        "measure": measure,
        "queries": len(ours),
        "teacher": float(ours.mean()),
        "start": float(theirs.mean()),
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "p": paired_p(ours, theirs),
        "better": difference.low > 0,
    }


def apply(verdict: dict[str, Any], rule: Literal["stop", "warn", "off"], teacher: str) -> None:
    """Say the verdict and act on it.

    Raises:
        UserError: The rule is ``stop`` and the teacher is not shown to be better.
    """
    line = (
        f"gate: on {verdict['queries']} dev queries the teacher {teacher!r} reaches {verdict['measure']} "
        f"{verdict['teacher']:.3f}, the start model {verdict['start']:.3f} (difference {verdict['difference']:+.3f}, "
        f"95 % interval {verdict['low']:+.3f} to {verdict['high']:+.3f})"
    )
    if verdict["better"]:
        logger.info(line)
    elif rule == "stop":
        raise UserError(
            f"{line}; not shown to be better, so nothing is trained; use another teacher or teacher.gate=warn"
        )
    else:
        logger.warning("%s; not shown to be better: the student may learn nothing from it", line)
