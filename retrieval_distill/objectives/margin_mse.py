"""Margin-MSE."""

from __future__ import annotations

from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective


class MarginMSE(Objective):
    """Mean squared difference between the student's and the teacher's margins of a relevant over another candidate.

    | uses | how |
    |---|---|
    | student, teacher | margins ``s(relevant) - s(other)`` of every such pair in a list |
    | labels | relevant: grade above 0; other: grade 0 |

    Every pair counts alike: the mean is over pairs, so a list without a relevant candidate adds nothing.

    Source: Hofstaetter et al., "Improving Efficient Neural Ranking Models with Cross-Architecture Knowledge
    Distillation", 2020, arXiv:2010.02666, equation 2.

    Args:
        teacher_scale: Factor on teacher margins; ``1.0`` takes raw logits as they are.
    """

    def __init__(self, teacher_scale: float = 1.0) -> None:
        self.teacher_scale = teacher_scale

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over (relevant, other) pairs; 0 when there is none."""
        relevant = (lists.labels > 0) & lists.mask
        other = (lists.labels <= 0) & lists.mask
        pairs = relevant[:, :, None] & other[:, None, :]  # [Q, C, C]
        student = lists.student[:, :, None] - lists.student[:, None, :]
        teacher = lists.teacher[:, :, None] - lists.teacher[:, None, :]
        errors = (student - self.teacher_scale * teacher).square()
        return errors.masked_fill(~pairs, 0.0).sum() / pairs.sum().clamp(min=1)
