"""ListMLE and its position-aware variant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive
from retrieval_distill.objectives.soft_ranks import average_ranks

POSITION_WEIGHTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "exponential": lambda ranks, length: torch.exp2(-ranks) - torch.exp2(-length),
    "logarithmic": lambda ranks, length: torch.log2(1 + ranks).reciprocal(),
}
"""(rank from 1, length of the list) -> weight, up to a factor."""


class ListMLE(Objective):
    """Negative log-likelihood of an order under the student's Plackett-Luce model.

    | uses | how |
    |---|---|
    | student | ``s = student / temperature``, the model's log-strengths |
    | teacher | the target order; only the order of its scores counts |
    | labels | with ``order_by: labels`` the grades come first, the teacher decides within a grade |

    ``sum_i w_i (log sum_k exp(s_k) - s_i)``, ``k`` running over the candidates not ranked before ``i``, averaged
    over queries. Tied candidates compete with each other (Breslow's treatment of ties), so their positions in the
    list do not matter.

    Source: Xia et al., "Listwise Approach to Learning to Rank - Theory and Algorithm", ICML 2008; weights by
    position: Lan et al., "Position-Aware ListMLE: A Sequential Learning Process for Ranking", UAI 2014.

    Args:
        order_by: ``teacher``, or ``labels``.
        position_weight: ``none``: 1 for every position, so the sum is the exact likelihood. ``exponential``:
            ``2 ** (length - rank) - 1``, p-ListMLE's usual choice. ``logarithmic``: ``1 / log2(1 + rank)``, as in
            nDCG. The last two are scaled to sum to 1 in each list.
        temperature: Divides the similarities, which already carry the student's scale.
    """

    @validate_call
    def __init__(
        self,
        order_by: Literal["teacher", "labels"] = "teacher",
        position_weight: Literal["none", "exponential", "logarithmic"] = "none",
        temperature: Positive = 1.0,
    ) -> None:
        self.order_by = order_by
        self.position_weight = position_weight
        self.temperature = temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over queries."""
        scores = lists.student / self.temperature
        order = self._order(lists)
        not_before = (order[:, None, :] >= order[:, :, None]) & lists.mask[:, None, :]  # [Q, C, C]
        left = torch.where(not_before, scores[:, None, :], -torch.inf).logsumexp(dim=-1)
        surprise = (left - scores).masked_fill(~lists.mask, 0.0)
        return (self._weights(order, lists.mask) * surprise).sum(dim=-1).mean()

    def _order(self, lists: CandidateLists) -> Tensor:
        """Sort keys, lowest first; grades differ by more than the teacher's first and last rank."""
        by_grade = {"teacher": 0, "labels": lists.mask.shape[1]}[self.order_by]
        return by_grade * average_ranks(lists.labels, lists.mask) + average_ranks(lists.teacher, lists.mask)

    def _weights(self, order: Tensor, mask: Tensor) -> Tensor:
        if self.position_weight == "none":
            return torch.ones_like(order)
        length = mask.sum(dim=-1, keepdim=True)
        weights = POSITION_WEIGHTS[self.position_weight](average_ranks(-order, mask), length).masked_fill(~mask, 0.0)
        return weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
