"""RankNet, and LambdaRank's weights on its pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive
from retrieval_distill.objectives.soft_ranks import average_ranks, distinct_pairs, ideal_dcg, reciprocal_gains


class RankNet(Objective):
    """Logistic loss on every pair of candidates that the teacher orders.

    | uses | how |
    |---|---|
    | student | ``log(1 + exp(-(s_i - s_j) / temperature))`` where the teacher scores ``i`` above ``j`` |
    | teacher | which of two candidates is better, and with ``weighting: lambda`` its ranks |
    | labels | not used |

    The mean is over the step's pairs, weighted or not; pairs of equal teacher scores are left out.

    Source: Burges et al., "Learning to Rank using Gradient Descent", ICML 2005; weights: Burges et al., "Learning
    to Rank with Nonsmooth Cost Functions", NIPS 2006.

    Args:
        weighting: ``none``, or ``lambda``: each pair is weighted by the change of nDCG when the two swap positions in
            the student's current order (without gradient). Gains are ``1 / rank`` in the teacher's order, since
            grades are too coarse and scores have no zero.
        temperature: Divides the similarities, which already carry the student's scale.
    """

    @validate_call
    def __init__(self, weighting: Literal["none", "lambda"] = "none", temperature: Positive = 1.0) -> None:
        self.weighting = weighting
        self.temperature = temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over ordered pairs; 0 if there is none."""
        pairs = (lists.teacher[:, :, None] > lists.teacher[:, None, :]) & distinct_pairs(lists.mask)
        differences = (lists.student[:, :, None] - lists.student[:, None, :]) / self.temperature
        losses = WEIGHTINGS[self.weighting](lists) * torch.nn.functional.softplus(-differences)
        return losses.masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp(min=1)


def _swap_effects(lists: CandidateLists) -> Tensor:
    """|change of nDCG| when two candidates swap positions, [Q, C, C]."""
    gains = reciprocal_gains(lists.teacher, lists.mask)
    discounts = torch.log2(1 + average_ranks(lists.student.detach(), lists.mask)).reciprocal()
    effects = (gains[:, :, None] - gains[:, None, :]) * (discounts[:, :, None] - discounts[:, None, :])
    return effects.abs() / ideal_dcg(gains).clamp(min=torch.finfo(gains.dtype).tiny)[:, :, None]


WEIGHTINGS: dict[str, Callable[[CandidateLists], Tensor]] = {
    "none": lambda lists: lists.student.new_ones(()),
    "lambda": _swap_effects,
}
"""The weight of each pair, broadcast to [Q, C, C]."""
