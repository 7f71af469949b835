"""Approximate nDCG."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive
from retrieval_distill.objectives.soft_ranks import approximate_ranks, ideal_dcg, reciprocal_gains


class ApproxNDCG(Objective):
    """One minus an nDCG in which the student's ranks are differentiable.

    | uses | how |
    |---|---|
    | student | ranks ``r_i = 1 + sum_j sigmoid((s_j - s_i) / temperature)`` |
    | teacher | with ``gain: teacher``, gains of ``1 / rank`` in its order |
    | labels | with ``gain: labels``, gains of ``2 ** grade - 1``, as in nDCG |

    ``1 - sum_i g_i / log2(1 + r_i) / ideal``, averaged over queries; a list whose gains are all 0 adds nothing.

    Source: Qin et al., "A General Approximation Framework for Direct Optimization of Information Retrieval
    Measures", Information Retrieval 13, 2010.

    Args:
        gain: Where gains come from: ``teacher`` or ``labels``.
        temperature: Lower makes the ranks sharper, with a gradient for close candidates only.
    """

    @validate_call
    def __init__(self, gain: Literal["teacher", "labels"] = "teacher", temperature: Positive = 1.0) -> None:
        self.gain = gain
        self.temperature = temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean loss over queries, between 0 and 1."""
        gains = {
            "teacher": reciprocal_gains(lists.teacher, lists.mask),
            "labels": (torch.exp2(lists.labels) - 1).masked_fill(~lists.mask, 0.0),
        }[self.gain]
        ranks = approximate_ranks(lists.student, lists.mask, self.temperature)
        ideal = ideal_dcg(gains).squeeze(-1)
        reached = (gains / torch.log2(1 + ranks)).sum(dim=-1)
        losses = 1 - reached / ideal.clamp(min=torch.finfo(ideal.dtype).tiny)
        return losses.masked_fill(ideal <= 0, 0.0).mean()
