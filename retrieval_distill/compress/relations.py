"""Transfer of multi-head attention relations: queries to queries, keys to keys, values to values.

Knows tensors; must not know models.

Source: Wang et al., "MiniLMv2: Multi-Head Self-Attention Relation Distillation for Compressing Pretrained
Transformers", 2020, arXiv:2012.15828, section 3.1.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, validate_call
from torch import Tensor
from torch.autograd.function import once_differentiable

from retrieval_distill.compress.layer_numbers import layer_index
from retrieval_distill.compress.transfer import ActivationKey, Activations, ModelPair, Transfer
from retrieval_distill.errors import UserError

BLOCK = 1 << 22
"""Relations [texts, heads, L, L] computed at once: 16 MiB in float32, with about six such blocks in memory."""

Kind = Literal["query", "key", "value"]


class Relations(Transfer):
    """KL divergence of the teacher's relations from the student's, for each of queries, keys and values.

    A projection X of one layer, [B, L, width], is split into relation heads of ``width / heads`` coordinates; a
    relation is the softmax over real tokens of ``X X^T / sqrt(width / heads)``. Widths and attention heads may differ.
    Mean over heads and real tokens of a text, then over texts; summed over kinds.

    Args:
        heads: Relation heads; ``None``: as many as the teacher's attention heads. The paper uses 48 for a width of
            768.
        teacher_layer: Layer of the teacher, from 0 (below 0: from the last one); the paper uses the last one for
            teachers of 12 layers, and an upper middle one for teachers of 24.
        student_layer: Layer of the student, likewise.
        of: The projections.
    """

    @validate_call
    def __init__(
        self,
        heads: Annotated[int, Field(ge=1)] | None = None,
        teacher_layer: int = -1,
        student_layer: int = -1,
        of: tuple[Kind, ...] = ("query", "key", "value"),
    ) -> None:
        super().__init__()
        self.heads, self.of = heads, of
        self.teacher_layer, self.student_layer = teacher_layer, student_layer

    def bind(self, pair: ModelPair) -> None:
        """See :meth:`Transfer.bind`."""
        self.heads = relation_heads(self.heads, pair)
        student = layer_index(self.student_layer, pair.student.layers, "relations.student_layer")
        teacher = layer_index(self.teacher_layer, pair.teacher.layers, "relations.teacher_layer")
        self.student_keys: tuple[ActivationKey, ...] = tuple((kind, student) for kind in self.of)
        self.teacher_keys: tuple[ActivationKey, ...] = tuple((kind, teacher) for kind in self.of)

    def forward(self, student: Activations, teacher: Activations, mask: Tensor) -> Tensor:
        """See :meth:`Transfer.forward`."""
        asks = zip(self.student_keys, self.teacher_keys, strict=True)
        values = [relation_kl(student[own], teacher[other], mask, int(self.heads or 1)) for own, other in asks]
        return torch.stack(values).sum()


def relation_heads(heads: int | None, pair: ModelPair) -> int:
    """The number of relation heads, checked.

    Raises:
        UserError: The number does not divide both widths.
    """
    widths = pair.student.width, pair.teacher.width
    common = math.gcd(*widths)
    heads = heads or pair.teacher.heads
    if common % heads:
        works = ", ".join(str(count) for count in range(1, common + 1) if common % count == 0)
        raise UserError(
            f"compress.transfers.relations: {heads} relation heads do not divide the widths of the student "
            f"({widths[0]}) and the teacher ({widths[1]}); set heads to one of: {works}"
        )
    return heads


def relation_kl(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Mean KL divergence of the student's relations from the teacher's, a scalar in float32.

    Args:
        student: [B, L, width], with gradients.
        teacher: [B, L, its width], without.
        mask: Real tokens, bool [B, L].
        heads: Relation heads; divides both widths.
    """
    return _RelationKL.apply(student, teacher, mask, heads)


class _RelationKL(torch.autograd.Function):
    """Value and gradient in one pass over blocks of texts, so that no [B, heads, L, L] is ever in memory.

    The gradient of KL(p || softmax(z)) by one row of logits is softmax(z) - p; through z = X X^T / sqrt(d) a matrix G
    of these becomes (G + G^T) X / sqrt(d).
    """

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
        texts, longest, _ = student.shape
        total = torch.zeros((), dtype=_exact(student), device=student.device)
        gradient = torch.empty_like(student, dtype=total.dtype) if ctx.needs_input_grad[0] else None
        at_once = max(1, BLOCK // (heads * longest * longest))
        for start in range(0, texts, at_once):
            block = slice(start, start + at_once)
            value, slope = _block(student[block], teacher[block], mask[block], heads, gradient is not None)
            total += value / texts
            if gradient is not None:
                gradient[block] = slope / texts
        if gradient is not None:
            ctx.save_for_backward(gradient.to(student.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None, None]:
        return ctx.saved_tensors[0] * upstream[0], None, None, None


def _block(student: Tensor, teacher: Tensor, mask: Tensor, heads: int, slope: bool) -> tuple[Tensor, Any]:
    """The sum over a block's texts, and its gradient [texts, L, width]."""
    own, others = _split(student, heads), _split(teacher, heads)
    wanted = _log_relations(others, mask)
    found = _log_relations(own, mask)
    rows = mask[:, None, :, None] / (heads * mask.sum(dim=1))[:, None, None, None]  # weight of each row of relations
    target = wanted.exp_()
    # only p is stored, not log p: p log p = p log(p) with 0 log 0 = 0
    entropy = torch.special.entr(target).sum(dim=-1, keepdim=True)
    cross = torch.einsum("bhij,bhij->bhi", target, found.masked_fill(~mask[:, None, None, :], 0.0)).unsqueeze(-1)
    value = ((-entropy - cross) * rows).sum()
    if not slope:
        return value, None
    difference = found.exp_().sub_(target).mul_(rows)
    symmetric = difference + difference.transpose(-1, -2)
    return value, (symmetric @ own / math.sqrt(own.shape[-1])).transpose(1, 2).flatten(2)


def _split(projected: Tensor, heads: int) -> Tensor:
    """[B, L, width] -> [B, heads, L, width / heads] in float32 or better."""
    return projected.to(_exact(projected)).unflatten(-1, (heads, -1)).transpose(1, 2)


def _log_relations(projected: Tensor, mask: Tensor) -> Tensor:
    logits = projected @ projected.transpose(-1, -2) / math.sqrt(projected.shape[-1])
    return logits.masked_fill_(~mask[:, None, None, :], -torch.inf).log_softmax(dim=-1)


def _exact(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)
