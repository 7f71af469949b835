"""Exact and differentiable ranks within a candidate list, and gains for nDCG.

Knows only masked score tensors; must not know whose scores they are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def distinct_pairs(mask: Tensor) -> Tensor:
    """Pairs of two different real candidates, bool [Q, C, C]."""
    itself = torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask[:, :, None] & mask[:, None, :] & ~itself


def average_ranks(scores: Tensor, mask: Tensor) -> Tensor:
    """Ranks from 1 (highest score) among the real candidates; equal scores share the mean of their ranks.

    Ranks do not depend on a candidate's position in its list. Padded positions get some finite rank above 0.
    """
    higher = (scores[:, None, :] > scores[:, :, None]) & mask[:, None, :]
    equal = (scores[:, None, :] == scores[:, :, None]) & mask[:, None, :]
    return (higher.sum(dim=-1) + (equal.sum(dim=-1) + 1) / 2).to(scores.dtype)


def approximate_ranks(scores: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Ranks with a gradient: ``1 + sum_j sigmoid((s_j - s_i) / temperature)`` over the other real candidates."""
    ahead = torch.sigmoid((scores[:, None, :] - scores[:, :, None]) / temperature)
    return 1.0 + ahead.masked_fill(~distinct_pairs(mask), 0.0).sum(dim=-1)


def reciprocal_gains(scores: Tensor, mask: Tensor) -> Tensor:
    """A gain of ``1 / rank`` for each real candidate, 0 where padded.

    It stresses the top, is invariant to monotone changes of the scores, and does not grow with the length of the list,
    as ``2 ** (length - rank)`` would.
    """
    return average_ranks(scores, mask).reciprocal().masked_fill(~mask, 0.0)


def ideal_dcg(gains: Tensor) -> Tensor:
    """The highest discounted cumulative gain of each row, [Q, 1]; padded places carry a gain of 0."""
    places = torch.arange(gains.shape[1], dtype=gains.dtype, device=gains.device)
    return (gains.sort(dim=-1, descending=True).values / torch.log2(places + 2)).sum(dim=-1, keepdim=True)
