"""In-batch cross-entropy with targets softened by the teacher."""

from __future__ import annotations

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive, Share, masked_log_softmax


class SoftContrastive(Objective):
    """Cross-entropy over the step's documents, with targets from both the judgements and the teacher.

    | uses | how |
    |---|---|
    | student, in_batch | ``log q``: log-softmax over the step's documents at ``student_temperature`` |
    | labels | hard targets: 1, shared equally by the relevant candidates of the list |
    | teacher | soft targets: softmax over the list at ``teacher_temperature`` |
    | in_batch_labels | relevant documents from the lists of other queries are excluded from the denominator |

    ``- sum_i (hard * h_i + (1 - hard) * p_i) log q_i`` over the candidates ``i`` of a list, averaged over queries.
    Documents from the lists of other queries are negatives with a target of 0. A list without a relevant candidate
    learns only from its soft targets.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531, section 2 (hard
    and soft targets, weighted); no factor of temperature squared is applied.

    Args:
        hard: Share of the hard targets; ``1.0`` is ``in_batch``, ``0.0`` is ``list_net`` with in-batch negatives.
        teacher_temperature: Above 1 softens the teacher.
        student_temperature: Above 1 softens the student.
    """

    compares_documents = True

    @validate_call
    def __init__(
        self, hard: Share = 0.5, teacher_temperature: Positive = 1.0, student_temperature: Positive = 1.0
    ) -> None:
        self.hard = hard
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean cross-entropy over queries."""
        relevant = (lists.labels > 0) & lists.mask
        negatives = lists.in_batch.masked_fill(lists.in_batch_labels > 0, -torch.inf)
        rivals = torch.cat([negatives, lists.student.masked_fill(~relevant, -torch.inf)], dim=1)
        normaliser = torch.logsumexp(rivals / self.student_temperature, dim=1, keepdim=True)
        student = (lists.student / self.student_temperature - normaliser).masked_fill(~lists.mask, 0.0)
        soft = masked_log_softmax(lists.teacher / self.teacher_temperature, lists.mask).exp()
        target = self.hard * relevant / relevant.sum(dim=1, keepdim=True).clamp(min=1) + (1 - self.hard) * soft
        return -(target * student).sum(dim=-1).mean()
