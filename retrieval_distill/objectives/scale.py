"""The scale check before training: can the student reach what its objectives demand?

Knows teacher scores as numbers and the options of objectives; must not know models, datasets or training.

Within a list, raw logits of a cross-encoder differ by ten or more, cosine similarities by at most two, and in practice
by about one, since cosines of trained students are rarely negative. ``student.scale`` bridges the two. If it does not,

* objectives that match numbers (``margin_mse``, ``score_mse``) have unreachable targets: the loss stays high, every
  candidate is pushed to the end of the scale, and the order in between is lost. With scores squashed to 0..1 the
  opposite happens: the student may ignore them and still be right to a hundredth;
* objectives that match a distribution (``listwise_kl``, ``list_net``, ``soft_contrastive``) work at any scale of
  scores, but a nearly one-hot distribution teaches only the best candidate, and a nearly uniform one nothing. How
  peaked it is, is measured by its entropy as a share of the maximum, ``log(length of the list)``.

Objectives that only use the teacher's order (``list_mle``, ``rank_net``, ``adr_mse``, ``approx_ndcg``) cannot fail in
these ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.objectives import Mix
from retrieval_distill.objectives.list_net import ListNet
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.objectives.margin_mse import MarginMSE
from retrieval_distill.objectives.score_mse import ScoreMSE
from retrieval_distill.objectives.soft_contrastive import SoftContrastive

USUAL = 0.5
"""Share of the span of cosines, from -1 to 1, that trained students use."""

TINY = 0.01
"""Share of that span below which nearly all margins are lost in the noise."""

PEAKED, FLAT = 0.01, 0.99
"""Median entropies, as a share of the maximum, outside which a teacher's distributions are degenerate."""


def check_scale(
    teacher_scores: Sequence[np.ndarray],
    similarity: Literal["cosine", "dot"],
    scale: float,
    objectives: Mix | Mapping[str, Any],
) -> list[str]:
    """Compare the teacher's scores with what the student can reach.

    The margins are those of each list's best candidate over its others. A ``cosine`` times ``scale`` spans
    ``2 * scale``; nothing bounds ``dot``, so only the teacher's distributions are checked there.

    Args:
        teacher_scores: One array of raw scores per query; queries with fewer than two are skipped.
        similarity: The student's similarity.
        scale: ``student.scale``.
        objectives: The mix, or the recipe's mapping of it.

    Returns:
        Warnings, plain sentences that name a value that would work; empty if all is well.

    Raises:
        UserError: More than 5 % of the numbers that ``margin_mse`` or ``score_mse`` copies are beyond the student's
            reach, no query has two scores, or a score is NaN or infinite.
    """
    lists = [np.asarray(scores, np.float64) for scores in teacher_scores if len(scores) > 1]
    if not lists:
        raise UserError("no query has two scored candidates: there is nothing to learn from")
    missing = sum(int((~np.isfinite(scores)).sum()) for scores in lists)
    if missing:
        raise UserError(f"{counted(missing, 'teacher score', 'are')} NaN or infinite; score those pairs again")
    margins = np.concatenate([np.delete(scores.max() - scores, scores.argmax()) for scores in lists])
    span = 2 * scale if similarity == "cosine" else math.inf
    mix = objectives if isinstance(objectives, Mix) else Mix(objectives)
    warnings: list[str] = []
    for name, part in mix.parts.items():
        match part.objective:
            case MarginMSE():
                warnings += _numbers(name, part.objective.teacher_scale, "margins", margins, span, scale)
            case ScoreMSE():
                values = np.abs(np.concatenate(lists))
                warnings += _numbers(name, part.objective.teacher_scale, "scores", values, span / 2, scale)
            case SoftContrastive(hard=1.0):
                pass  # does not use the teacher
            case ListwiseKL() | ListNet() | SoftContrastive():
                warnings += _distributions(name, part.objective, lists, margins)
                warnings += _log_odds(name, part.objective, margins, span)
    return warnings


def _numbers(name: str, teacher_scale: float, what: str, values: np.ndarray, reach: float, scale: float) -> list[str]:
    """Compare numbers to match with the largest that the student can give."""
    if math.isinf(reach):
        return []
    median, most = teacher_scale * np.quantile(values, [0.5, 0.95])
    if most == 0:
        return [f"objectives.{name}: the teacher's {what} are all 0: there is nothing to learn"]
    usual = USUAL * reach
    advice = (
        f"set student.scale={_round(scale * most / usual, math.ceil)} "
        f"or objectives.{name}.teacher_scale={_round(teacher_scale * usual / most, math.floor)}"
    )
    finding = (
        f"objectives.{name}: the teacher's {what} times teacher_scale={teacher_scale:g} have a median of {median:.3g} "
        f"and a 95th percentile of {most:.3g}, and cosines times student.scale={scale:g} are at most {reach:.3g}"
    )
    if most > reach:
        raise UserError(f"{finding}: out of reach; {advice}")
    if median > usual * (1 + 1e-6):
        return [f"{finding}, in practice about {usual:.3g}: hard to reach; {advice}"]
    if most < TINY * reach:
        return [f"{finding}: too small to learn from; {advice}"]
    return []


def _distributions(
    name: str, objective: ListwiseKL | ListNet | SoftContrastive, lists: list[np.ndarray], margins: np.ndarray
) -> list[str]:
    """Check how peaked the teacher's distributions are."""
    padded = np.full((len(lists), max(map(len, lists))), -np.inf)
    for row, scores in zip(padded, lists, strict=True):
        row[: len(scores)] = scores - scores.max()
    entropy = _median_entropy(padded, objective.teacher_temperature)
    if PEAKED <= entropy <= FLAT:
        return []
    shape = "one-hot" if entropy < PEAKED else "uniform"
    found = (
        f"objectives.{name}: at teacher_temperature={objective.teacher_temperature:g} the teacher's distributions are "
        f"nearly {shape} (median entropy {entropy:.1%} of the maximum)"
    )
    better = _middle_temperature(padded, margins)
    if better is None:
        return [f"{found}, and no temperature helps: too many of its scores are equal"]
    return [f"{found}; objectives.{name}.teacher_temperature={_round(better, round)} would give 50%"]


def _log_odds(
    name: str, objective: ListwiseKL | ListNet | SoftContrastive, margins: np.ndarray, span: float
) -> list[str]:
    """Check whether the student's softmax can be as peaked as the teacher's."""
    wanted = float(np.median(margins)) / objective.teacher_temperature
    reach = span / objective.student_temperature
    if wanted <= reach:
        return []
    better = _round(objective.student_temperature * reach / wanted, math.floor)
    return [
        f"objectives.{name}: the teacher's median log-odds of its best candidate over another are {wanted:.3g}, the "
        f"student's cannot exceed {reach:.3g}; "
        f"set objectives.{name}.student_temperature={better} or a higher student.scale"
    ]


def _median_entropy(scores: np.ndarray, temperature: float) -> float:
    """The median over lists of the softmax's entropy, as a share of the maximum.

    Args:
        scores: float64 [queries, length], 0 for a list's best candidate, -inf where padded.
        temperature: Divides them.
    """
    exponents = scores / temperature
    weights = np.exp(exponents)
    total = weights.sum(axis=1)
    moments = np.multiply(weights, exponents, out=np.zeros_like(weights), where=weights > 0).sum(axis=1)
    entropy = np.log(total) - moments / total
    return float(np.median(entropy / np.log(np.isfinite(scores).sum(axis=1))))


def _middle_temperature(scores: np.ndarray, margins: np.ndarray) -> float | None:
    """The temperature at which the median entropy is half the maximum; ``None`` if equal scores prevent that.

    Every entropy increases with the temperature, and so does their median: there is at most one solution.
    """
    positive = margins[margins > 0]
    if not len(positive):
        return None
    coldest, hottest = math.log(positive.min() / 100), math.log(positive.max() * 100)
    if _median_entropy(scores, math.exp(coldest)) >= 0.5:
        return None
    return math.exp(brentq(lambda t: _median_entropy(scores, math.exp(t)) - 0.5, coldest, hottest, xtol=1e-6))


def _round(value: float, towards: Callable[[float], int]) -> str:
    """A number for a recipe, with two significant digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return f"{towards(round(value / unit, 6)) * unit:g}"
