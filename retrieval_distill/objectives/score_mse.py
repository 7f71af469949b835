"""Mean squared error on scores."""

from __future__ import annotations

from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive


class ScoreMSE(Objective):
    """Mean squared difference between the student's similarities and the teacher's scores.

    | uses | how |
    |---|---|
    | student, teacher | ``(student - teacher_scale * teacher) ** 2`` of every candidate |
    | labels | not used |

    The only objective that matches the teacher's level, not just its differences: a constant added to all teacher
    scores changes it. All candidates have equal weight, whatever the length of their list.

    Source: Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014, arXiv:1312.6184 (regression on logits).

    Args:
        teacher_scale: Factor on teacher scores; ``1.0`` uses raw logits.
    """

    @validate_call
    def __init__(self, teacher_scale: Positive = 1.0) -> None:
        self.teacher_scale = teacher_scale

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over candidates; 0 if there is none."""
        errors = (lists.student - self.teacher_scale * lists.teacher).square()
        return errors.masked_fill(~lists.mask, 0.0).sum() / lists.mask.sum().clamp(min=1)
