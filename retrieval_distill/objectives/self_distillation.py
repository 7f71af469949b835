"""Self-distillation between views."""

from __future__ import annotations

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive


class SelfDistillation(Objective):
    """Divergence between the full vectors' distribution over the step's documents and that of a view of them.

    | uses | how |
    |---|---|
    | whole | softmax over the step's documents: the teacher, without gradients |
    | in_batch | log-softmax over the same documents of the view (fewer dimensions, fewer bits) |
    | student, teacher, labels | not used |

    Needs ``views``, and is active in those other than the full one: a short or quantised vector learns to rank like the
    full one, which meanwhile learns from the other objectives.

    Source: Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self
    Distillation", 2019, arXiv:1905.08094 (early exits learn from the whole network), applied to vectors.

    Args:
        temperature: Divides both similarities, which already carry the student's scale.
    """

    needs = ("whole",)
    compares_documents = True

    @validate_call
    def __init__(self, temperature: Positive = 1.0) -> None:
        self.temperature = temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean divergence over queries."""
        assert lists.whole is not None
        target = torch.log_softmax(lists.whole / self.temperature, dim=-1)
        student = torch.log_softmax(lists.in_batch / self.temperature, dim=-1)
        return (target.exp() * (target - student)).sum(dim=-1).mean()
