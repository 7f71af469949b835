"""ADR-MSE: squared errors of ranks, discounted."""

from __future__ import annotations

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive
from retrieval_distill.objectives.soft_ranks import approximate_ranks, average_ranks


class ADRMSE(Objective):
    """Approximate discounted rank MSE: the student's ranks should be the teacher's, most of all at the top.

    | uses | how |
    |---|---|
    | student | differentiable ranks ``1 + sum_j sigmoid((s_j - s_i) / temperature)`` |
    | teacher | its ranks; equal scores share their mean rank |
    | labels | not used |

    ``(teacher rank - student rank) ** 2 / log2(1 + teacher rank)``. Every candidate counts alike: the mean is over
    the step's candidates.

    Source: Schlatt et al., "Rank-DistiLLM: Closing the Effectiveness Gap Between Cross-Encoders and LLMs for Passage
    Re-ranking", 2024, arXiv:2405.07920.

    Args:
        temperature: Lower makes the student's ranks sharper, with a gradient for close candidates only.
    """

    @validate_call
    def __init__(self, temperature: Positive = 1.0) -> None:
        self.temperature = temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over candidates; 0 when there is none."""
        target = average_ranks(lists.teacher, lists.mask)
        ranks = approximate_ranks(lists.student, lists.mask, self.temperature)
        errors = (target - ranks).square() / torch.log2(1 + target)
        return errors.masked_fill(~lists.mask, 0.0).sum() / lists.mask.sum().clamp(min=1)
