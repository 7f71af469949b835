"""What every transfer asks of the two encoders, is given of a batch, and gives back.

Knows tensors and layer numbers; must not know models, texts or training.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

Ask = tuple[str, int]
"""What to look at, and in which layer (from 0).

``hidden``: the layer's output, [B, L, width]; ``query``, ``key``, ``value``: what its attention projects its input
to, [B, L, width]; ``attention``: its attention maps, [B, heads, L, L]. Of no layer (0): ``embeddings``, what the first
layer is given, and ``tokens``, what the model gives for each token, both [B, L, width]; ``vector``, [B, dimensions].
"""

Seen = Mapping[Ask, Tensor]
"""What was asked for, of one batch; what lies in a layer that was passed over is missing."""

VECTOR: Ask = ("vector", 0)


@dataclass(frozen=True)
class Anatomy:
    """An encoder's measures."""

    layers: int
    width: int
    heads: int
    dimensions: int
    """Of the sentence vector."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A student and its teacher, as transfers need to know them.

    Attributes:
        student: The student's measures.
        teacher: The teacher's.
        teacher_name: Where the teacher's files are, for what is not part of an encoder (a language-model head).
        basis: Where the student is a narrowed teacher: the orthonormal directions of the teacher's hidden states that
            the student's coordinates are, [teacher width, student width]. ``None``: nothing is known.
    """

    student: Anatomy
    teacher: Anatomy
    teacher_name: str = ""
    basis: Tensor | None = None


class Transfer(nn.Module, ABC):
    """A transfer: what both encoders made of a batch in, a scalar out (mean over texts, to be minimised).

    It is made of its options, then bound to a pair, which decides what it asks for and which parameters of its own
    (projections) are trained with the student and left behind.
    """

    token_by_token: ClassVar[bool] = True
    """Whether both encoders must cut texts into the same tokens."""

    student_asks: tuple[Ask, ...] = ()
    teacher_asks: tuple[Ask, ...] = ()

    @abstractmethod
    def bind(self, pair: Pair) -> None:
        """Fit the transfer to a pair.

        Raises:
            UserError: An option does not suit it.
        """

    @abstractmethod
    def forward(self, student: Seen, teacher: Seen, mask: Tensor) -> Tensor:
        """The transfer's value.

        Args:
            student: What it asked of the student, with gradients.
            teacher: What it asked of the teacher, without.
            mask: True for real tokens, bool [B, L], each row from the left.
        """


def projection(pair: Pair, inputs: int, outputs: int) -> nn.Module:
    """A linear map from the student's width to the teacher's, trained along; none where they are equal.

    It starts as the basis of a narrowed student's coordinates where that is known and fits, else as a random map with
    orthonormal columns.
    """
    if inputs == outputs:
        return nn.Identity()
    linear = nn.Linear(inputs, outputs, bias=False)
    if pair.basis is not None and pair.basis.shape == linear.weight.shape:
        linear.weight.data.copy_(pair.basis)
    else:
        nn.init.orthogonal_(linear.weight)
    return linear


def per_text(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over texts of the mean over each one's real tokens, of values [B, L]."""
    return ((values * mask).sum(dim=1) / mask.sum(dim=1)).mean()
