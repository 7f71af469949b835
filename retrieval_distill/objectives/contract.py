"""What every objective is given and gives back.

Knows tensors only; must not know models, data sets or how a batch was drawn.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""An option above 0, such as a temperature; an objective's ``__init__`` checks its options by their annotations."""

Share = Annotated[float, Field(ge=0, le=1)]
"""An option between 0 and 1."""


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of a step's texts: ``queries`` float [Q, E] and ``documents`` float [D, E]."""

    queries: Tensor
    documents: Tensor


@dataclass(frozen=True, eq=False)
class CandidateLists:
    """The ragged candidate lists of a step, padded; Q queries with up to C candidates, D distinct documents.

    Attributes:
        student: Student similarities (scale included), float [Q, C].
        teacher: Teacher scores, float [Q, C]; 0 where padded.
        labels: Grades from the qrels, float [Q, C]; 0 for unjudged and padded candidates.
        mask: True for real candidates, bool [Q, C].
        in_batch: Student similarities of every query with every distinct document of the step, float [Q, D].
        in_batch_labels: Grades of those pairs, float [Q, D]; 0 for unjudged.
        positions: Which column of ``in_batch`` a candidate stands in, int64 [Q, C]; any valid one where padded.
            ``None``: not told, for objectives that do not ask.
        vectors: The student's whole vectors, brought to the embedding teacher's dimension; ``None`` in a view that is
            not the whole (see :mod:`retrieval_distill.objectives.views`) and without an embedding teacher.
        teacher_vectors: The embedding teacher's; ``None`` without one.
        whole: In a view that is not the whole, ``in_batch`` of the student's whole vectors, without gradients.
    """

    student: Tensor
    teacher: Tensor
    labels: Tensor
    mask: Tensor
    in_batch: Tensor
    in_batch_labels: Tensor
    positions: Tensor | None = None
    vectors: Vectors | None = None
    teacher_vectors: Vectors | None = None
    whole: Tensor | None = None


class Objective(ABC):
    """A distillation objective: candidate lists in, a scalar out (mean over queries, to be minimised)."""

    needs: ClassVar[tuple[str, ...]] = ()
    """Attributes of the lists that are ``None`` in some trainings, without which it cannot be asked."""

    @abstractmethod
    def __call__(self, lists: CandidateLists) -> Tensor:
        """The objective's value, a scalar with gradients to the student's side of the lists."""


def masked_log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over the real candidates of each row; padded places get 0, so they add nothing to a sum."""
    log_probabilities = torch.log_softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    return log_probabilities.masked_fill(~mask, 0.0)
