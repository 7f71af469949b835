"""Margin-MSE."""

from __future__ import annotations

from typing import Literal

from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive
from retrieval_distill.objectives.soft_ranks import distinct_pairs


class MarginMSE(Objective):
    """Mean squared difference between the student's and the teacher's margins of one candidate over another.

    | uses | how |
    |---|---|
    | student, teacher | margins ``s(one) - s(other)`` of the pairs of a list |
    | labels | ``pairs: relevant`` pairs grades above 0 with grades of 0; ``all``: not used |

    All pairs have equal weight: the mean is over the step's pairs, so a list without any adds nothing.

    Source: Hofstaetter et al., "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation", 2020, arXiv:2010.02666, equation 2.

    Args:
        teacher_scale: Factor on teacher margins; ``1.0`` uses raw logits.
        pairs: ``relevant``: each relevant candidate against each other one, as published. ``all``: all pairs of a
            list, so that the teacher's differences among negatives are learnt too.
    """

    @validate_call
    def __init__(self, teacher_scale: Positive = 1.0, pairs: Literal["relevant", "all"] = "relevant") -> None:
        self.teacher_scale = teacher_scale
        self.pairs = pairs

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over pairs; 0 if there is none."""
        relevant, other = lists.labels > 0, lists.labels <= 0
        chosen = {"relevant": relevant[:, :, None] & other[:, None, :], "all": lists.mask[:, :, None]}[self.pairs]
        pairs = chosen & distinct_pairs(lists.mask)  # [Q, C, C]
        student = lists.student[:, :, None] - lists.student[:, None, :]
        teacher = lists.teacher[:, :, None] - lists.teacher[:, None, :]
        errors = (student - self.teacher_scale * teacher).square()
        return errors.masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp(min=1)
