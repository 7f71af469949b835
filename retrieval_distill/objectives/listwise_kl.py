"""Listwise Kullback-Leibler divergence."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive, masked_log_softmax


class ListwiseKL(Objective):
    """Divergence between the teacher's and the student's distribution over each candidate list.

    | uses | how |
    |---|---|
    | student, teacher | softmax over the list, each at its own temperature |
    | labels | not used |

    With ``p = softmax(teacher / teacher_temperature)``, ``q = softmax(student / student_temperature)`` and
    ``KL(a, b) = sum_i a_i (log a_i - log b_i)``, averaged over queries. No factor of temperature squared is
    applied: temperatures change the targets, not the weight of the objective.

    Source: Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, arXiv:1503.02531; over candidate
    lists as in Lin et al., "In-Batch Negatives for Knowledge Distillation with Tightly-Coupled Teachers", 2021.
    Reverse: Gu et al., "MiniLLM: Knowledge Distillation of Large Language Models", 2023, arXiv:2306.08543.
    Jensen-Shannon: Lin, "Divergence Measures Based on the Shannon Entropy", 1991.

    Args:
        teacher_temperature: Above 1 softens the teacher.
        student_temperature: Above 1 softens the student.
        direction: ``forward`` is ``KL(p, q)``: the student must cover everything that the teacher finds likely.
            ``reverse`` is ``KL(q, p)``: it must avoid what the teacher finds unlikely. ``jensen-shannon`` is the mean
            of both against ``(p + q) / 2``, at most log 2, so no list can outweigh the others.
    """

    @validate_call
    def __init__(
        self,
        teacher_temperature: Positive = 1.0,
        student_temperature: Positive = 1.0,
        direction: Literal["forward", "reverse", "jensen-shannon"] = "forward",
    ) -> None:
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature
        self.direction = direction

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean divergence over queries."""
        target = masked_log_softmax(lists.teacher / self.teacher_temperature, lists.mask)
        student = masked_log_softmax(lists.student / self.student_temperature, lists.mask)
        middle = torch.logaddexp(target, student) - math.log(2)
        towards = {
            "forward": [(target, student)],
            "reverse": [(student, target)],
            "jensen-shannon": [(target, middle), (student, middle)],
        }[self.direction]
        divergences = torch.stack([a.exp() * (a - b) for a, b in towards]).mean(dim=0)
        return divergences.masked_fill(~lists.mask, 0.0).sum(dim=-1).mean()
