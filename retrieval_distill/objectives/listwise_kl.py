"""Listwise Kullback-Leibler divergence."""

from __future__ import annotations

from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, masked_log_softmax


class ListwiseKL(Objective):
    """KL divergence from the teacher's to the student's distribution over each candidate list.

    | uses | how |
    |---|---|
    | student, teacher | softmax over the list, each at its own temperature |
    | labels | not used |

    ``sum_i p_i (log p_i - log q_i)`` with ``p = softmax(teacher / teacher_temperature)`` and
    ``q = softmax(student / student_temperature)``, averaged over queries. No factor of temperature squared is
    applied: temperatures change the targets, not the weight of the objective.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531; over candidate
    lists as in Lin et al., "In-Batch Negatives for Knowledge Distillation with Tightly-Coupled Teachers", 2021.

    Args:
        teacher_temperature: Above 1 softens the teacher.
        student_temperature: Above 1 softens the student.
    """

    def __init__(self, teacher_temperature: float = 1.0, student_temperature: float = 1.0) -> None:
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean divergence over queries."""
        target = masked_log_softmax(lists.teacher / self.teacher_temperature, lists.mask)
        student = masked_log_softmax(lists.student / self.student_temperature, lists.mask)
        divergence = (target.exp() * (target - student)).masked_fill(~lists.mask, 0.0)
        return divergence.sum(dim=-1).mean()
