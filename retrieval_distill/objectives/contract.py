"""The interface of objectives: candidate lists in, a scalar out.

Knows only tensors; must not know models, datasets or how a batch was drawn.
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
        student: Student similarities (scale included; in hybrid-aware distillation with BM25's part), float [Q, C].
        teacher: Teacher scores, float [Q, C]; 0 where padded.
        labels: Grades from the qrels, float [Q, C]; 0 for unjudged and padded candidates.
        mask: True for real candidates, bool [Q, C].
        in_batch: Student similarities of every query with every distinct document: those of the step and, behind them,
            those remembered from earlier steps, if any; float [Q, D].
        in_batch_labels: Grades of those pairs, float [Q, D]; 0 for unjudged.
        positions: A candidate's column in ``in_batch``, int64 [Q, C]; any valid one where padded. ``None``: unknown,
            for objectives that do not need them.
        vectors: The student's full vectors of the step's own texts, projected to the embedding teacher's dimensions;
            ``None`` in a view other than the full one (see :mod:`retrieval_distill.objectives.views`) and without an
            embedding teacher.
        teacher_vectors: The embedding teacher's vectors, of remembered documents too; ``None`` without one.
        whole: In a view other than the full one, ``in_batch`` of the student's full vectors, without gradients.
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
    """Optional attributes of the lists that the objective needs."""

    compares_documents: ClassVar[bool] = False
    """Whether it is about all documents of a step, those remembered from earlier ones included."""

    @abstractmethod
    def __call__(self, lists: CandidateLists) -> Tensor:
        """The loss, a scalar with gradients to the student's side of the lists."""


def masked_log_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Log-softmax over the real candidates of each row; padded places get 0, so they add nothing to a sum."""
    log_probabilities = torch.log_softmax(scores.masked_fill(~mask, -torch.inf), dim=-1)
    return log_probabilities.masked_fill(~mask, 0.0)
