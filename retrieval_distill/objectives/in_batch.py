"""Contrastive learning against the step's other documents."""

from __future__ import annotations

import torch
from pydantic import FiniteFloat, validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive


class InBatchContrastive(Objective):
    """InfoNCE: a relevant document against every document of the step that is not judged relevant to the query.

    | uses | how |
    |---|---|
    | in_batch, in_batch_labels | each relevant pair against the query's other documents of the step |
    | teacher, labels, positions | with ``false_negative_margin``: which of the query's candidates are left out |
    | student | not used |

    A query's other relevant documents are excluded from the denominator, by id.

    Source: van den Oord et al., "Representation Learning with Contrastive Predictive Coding", 2018,
    arXiv:1807.03748; with in-batch negatives as in Karpukhin et al., "Dense Passage Retrieval", 2020,
    arXiv:2004.04906; false negatives filtered by a cross-encoder: Qu et al., "RocketQA", 2020, arXiv:2010.08191.

    Args:
        temperature: Divides the similarities, which already carry the student's scale.
        false_negative_margin: A candidate that the teacher scores above the query's relevant one (the lowest, if there
            are several), or at most this far below, is not a negative and is excluded from the denominator. In units
            of teacher scores; ``None``: none is excluded. Documents from the lists of other queries have no teacher
            score for this query and stay.
    """

    compares_documents = True

    @validate_call
    def __init__(self, temperature: Positive = 1.0, false_negative_margin: FiniteFloat | None = None) -> None:
        self.temperature = temperature
        self.false_negative_margin = false_negative_margin

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean over relevant pairs; 0 if there is none."""
        scores = lists.in_batch / self.temperature
        relevant = lists.in_batch_labels > 0
        no_negatives = relevant | self._false_negatives(lists)
        negatives = torch.logsumexp(scores.masked_fill(no_negatives, -torch.inf), dim=1, keepdim=True)
        losses = torch.logaddexp(scores, negatives) - scores
        return losses.masked_fill(~relevant, 0.0).sum() / relevant.sum().clamp(min=1)

    def _false_negatives(self, lists: CandidateLists) -> Tensor:
        """The columns of ``in_batch`` that the teacher considers as good as relevant, bool [Q, D]."""
        if self.false_negative_margin is None:
            return torch.zeros_like(lists.in_batch, dtype=torch.bool)
        if lists.positions is None:
            raise ValueError("in_batch with a false_negative_margin needs the positions of the candidates")
        relevant = (lists.labels > 0) & lists.mask
        lowest = lists.teacher.masked_fill(~relevant, torch.inf).amin(dim=1, keepdim=True)
        as_good = (lists.teacher >= lowest - self.false_negative_margin) & lists.mask
        return torch.zeros_like(lists.in_batch).scatter_add(1, lists.positions, as_good.to(lists.in_batch.dtype)) > 0
