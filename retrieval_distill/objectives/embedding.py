"""Distillation of embeddings."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.objectives.contract import CandidateLists, Objective


class EmbeddingDistillation(Objective):
    """Distance between the student's vector of a text and an embedding teacher's.

    | uses | how |
    |---|---|
    | vectors, teacher_vectors | text by text; the means over queries and over documents have equal weight |
    | student, teacher, labels | not used |

    If the two have different dimensions, the student's vectors go through a linear projection, trained with the student
    and then discarded (:class:`retrieval_distill.training.distillation_model.DistillationModel`).

    Source: Kim et al., "EmbedDistill: A Geometric Knowledge Distillation for Information Retrieval", 2023,
    arXiv:2301.12005, section 4.2.

    Args:
        distance: ``cosine`` is one minus the cosine; ``euclidean`` the length of the difference; ``mse`` its mean
            square over dimensions, so it shrinks with their number.
        of: ``both``; ``queries``, for a student that searches an index of the teacher's documents; ``documents``.
    """

    needs = ("vectors", "teacher_vectors")

    @validate_call
    def __init__(
        self,
        distance: Literal["cosine", "euclidean", "mse"] = "cosine",
        of: Literal["both", "queries", "documents"] = "both",
    ) -> None:
        self.distance = distance
        self.sides = ("queries", "documents") if of == "both" else (of,)

    def __call__(self, lists: CandidateLists) -> Tensor:
        """The mean distance."""
        sides = [(getattr(lists.vectors, side), getattr(lists.teacher_vectors, side)) for side in self.sides]
        means = [self._distances(student, teacher[: len(student)]).mean() for student, teacher in sides]
        return torch.stack(means).mean()

    def _distances(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.distance == "cosine":
            return 1 - torch.cosine_similarity(student, teacher, dim=-1)
        difference = student - teacher
        return difference.norm(dim=-1) if self.distance == "euclidean" else difference.square().mean(dim=-1)
