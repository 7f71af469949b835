"""Contrastive learning against the step's other documents."""

from __future__ import annotations

import torch
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective


class InBatchContrastive(Objective):
    """InfoNCE: a relevant document against every document of the step that is not judged relevant to the query.

    | uses | how |
    |---|---|
    | in_batch, in_batch_labels | each relevant pair against the query's other documents of the step |
    | student, teacher | not used |

    A query's other relevant documents are taken out of the denominator, by id.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
    arXiv:1807.03748; with in-batch negatives as in Karpukhin et al., "Dense Passage Retrieval", 2020.

    Args:
        temperature: Divides the similarities, which already carry the student's scale.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = temperature

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over relevant pairs; 0 when there is none."""
        scores = lists.in_batch / self.temperature
        relevant = lists.in_batch_labels > 0
        negatives = torch.logsumexp(scores.masked_fill(relevant, -torch.inf), dim=1, keepdim=True)
        losses = torch.logaddexp(scores, negatives) - scores
        return losses.masked_fill(~relevant, 0.0).sum() / relevant.sum().clamp(min=1)
