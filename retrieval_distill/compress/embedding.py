"""Transfer of sentence vectors. Knows vectors; must not know models."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import validate_call
from torch import Tensor, nn

from retrieval_distill.compress.transfer import VECTOR, ActivationKey, Activations, ModelPair, Transfer, projection


class Embedding(Transfer):
    """Distance between the student's vector of a text and the teacher's, mean over texts.

    If their dimensions differ, the student's vector goes through a linear projection, trained and then discarded. The
    two encoders may have different tokenizers.

    Source: Reimers and Gurevych, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation",
    2020, arXiv:2004.09813 (mean squared error).

    Args:
        distance: ``cosine`` is one minus the cosine, ``mse`` the mean square of the difference over dimensions.
    """

    token_by_token = False
    student_keys: tuple[ActivationKey, ...] = (VECTOR,)
    teacher_keys: tuple[ActivationKey, ...] = (VECTOR,)

    @validate_call
    def __init__(self, distance: Literal["cosine", "mse"] = "cosine") -> None:
        super().__init__()
        self.distance = distance
        self.projection: nn.Module = nn.Identity()

    def bind(self, pair: ModelPair) -> None:
        """See :meth:`Transfer.bind`."""
        self.projection = projection(pair, pair.student.dimensions, pair.teacher.dimensions)

    def forward(self, student: Activations, teacher: Activations, mask: Tensor) -> Tensor:
        """See :meth:`Transfer.forward`."""
        own, wanted = self.projection(student[VECTOR]), teacher[VECTOR]
        if self.distance == "cosine":
            return (1 - torch.cosine_similarity(own, wanted, dim=-1)).mean()
        return (own - wanted).square().mean()
