"""In-batch teacher scores: dual supervision."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor
from torch.nn.functional import normalize

from retrieval_distill.objectives.contract import CandidateLists, Objective, Positive


class InBatchKL(Objective):
    """Divergence between the embedding teacher's and the student's distribution over all documents of the step.

    | uses | how |
    |---|---|
    | in_batch | log-softmax over the step's documents at ``student_temperature`` |
    | teacher_vectors | softmax over the same documents of the teacher's similarities at ``teacher_temperature`` |
    | student, teacher, labels | not used |

    A cross-encoder scores only each query's own candidates; an embedding teacher also scores the documents of the other
    lists, for the price of a matrix product. Mixed with a listwise objective this is dual supervision; with
    the student before training as the teacher (``embedding_teacher: {model: start}``), self-distillation that preserves
    what the student knew.

    Source: Hofstaetter et al., "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling",
    2021, arXiv:2104.06967, section 3.2 (dual supervision); Lin et al., "In-Batch Negatives for Knowledge Distillation
    with Tightly-Coupled Teachers", 2021 (the divergence over the batch).

    Args:
        teacher_temperature: Divides the teacher's similarities; 0.05 suits cosines.
        student_temperature: Divides the student's similarities, which already carry its scale.
        similarity: The teacher's similarity.
    """

    needs = ("teacher_vectors",)
    compares_documents = True

    @validate_call
    def __init__(
        self,
        teacher_temperature: Positive = 0.05,
        student_temperature: Positive = 1.0,
        similarity: Literal["cosine", "dot"] = "cosine",
    ) -> None:
        self.teacher_temperature = teacher_temperature
        self.student_temperature = student_temperature
        self.similarity = similarity

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean divergence over queries."""
        assert lists.teacher_vectors is not None
        queries, documents = lists.teacher_vectors.queries, lists.teacher_vectors.documents
        if self.similarity == "cosine":
            queries, documents = normalize(queries, dim=-1), normalize(documents, dim=-1)
        target = torch.log_softmax(queries @ documents.T / self.teacher_temperature, dim=-1)
        student = torch.log_softmax(lists.in_batch / self.student_temperature, dim=-1)
        return (target.exp() * (target - student)).sum(dim=-1).mean()
