"""The interface of every transfer: the activations it needs of both encoders, and the loss it computes.

Knows tensors and layer numbers; must not know models, texts or training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

ActivationKey = tuple[str, int]
"""Kind of activation, and layer (from 0).

``hidden``: the layer's output, [B, L, width]; ``query``, ``key``, ``value``: projections of its attention,
[B, L, width]; ``attention``: its attention maps, [B, heads, L, L]. Without a layer (0): ``embeddings``, the input of
the first layer, and ``tokens``, the model's output per token, both [B, L, width]; ``vector``, [B, dimensions].
"""

Activations = Mapping[ActivationKey, Tensor]
"""Activations of one batch; those of skipped layers are missing."""

VECTOR: ActivationKey = ("vector", 0)


@dataclass(frozen=True)
class EncoderShape:
    """An encoder's shape."""

    layers: int
    width: int
    heads: int
    dimensions: int
    """Dimensions of the sentence vector."""


@dataclass(frozen=True, eq=False)
class ModelPair:
    """Properties of a student and its teacher that transfers need.

    Attributes:
        student: The student's shape.
        teacher: The teacher's shape.
        teacher_name: The teacher model, for parts outside the encoder (a language-model head).
        basis: For a narrowed teacher as student: the orthonormal directions of the teacher's hidden states that are the
            student's coordinates, [teacher width, student width]. ``None``: unknown.
    """

    student: EncoderShape
    teacher: EncoderShape
    teacher_name: str = ""
    basis: Tensor | None = None


class Transfer(nn.Module, ABC):
    """A transfer: activations of both encoders in, a scalar loss out (mean over texts).

    It is created with its options and then bound to a pair, which determines the activations it needs and its own
    parameters (projections), which are trained with the student and then discarded.
    """

    token_by_token: ClassVar[bool] = True
    """Whether both encoders must tokenise texts identically."""

    student_keys: tuple[ActivationKey, ...] = ()
    teacher_keys: tuple[ActivationKey, ...] = ()

    @abstractmethod
    def bind(self, pair: ModelPair) -> None:
        """Fit the transfer to a pair.

        Raises:
            UserError: An option does not fit the pair.
        """

    @abstractmethod
    def forward(self, student: Activations, teacher: Activations, mask: Tensor) -> Tensor:
        """The loss.

        Args:
            student: The student's activations, with gradients.
            teacher: The teacher's activations, without.
            mask: True for real tokens, bool [B, L]; padding is on the right.
        """


def projection(pair: ModelPair, inputs: int, outputs: int) -> nn.Module:
    """A trainable linear map from the student's width to the teacher's; the identity if they are equal.

    Initialised with the basis of a narrowed student, if it is known and fits, else randomly with orthonormal columns.
    """
    if inputs == outputs:
        return nn.Identity()
    linear = nn.Linear(inputs, outputs, bias=False)
    if pair.basis is not None and pair.basis.shape == linear.weight.shape:
        linear.weight.data.copy_(pair.basis)
    else:
        nn.init.orthogonal_(linear.weight)
    return linear


def mean_per_text(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over texts of the mean over each text's real tokens, for values [B, L]."""
    return ((values * mask).sum(dim=1) / mask.sum(dim=1)).mean()
