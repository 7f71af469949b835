"""Attention maps, head by head. Knows tensors; must not know models.

Source: Wang et al., "MiniLM: Deep Self-Attention Distillation", 2020, arXiv:2002.10957, section 3.1.
"""

from __future__ import annotations

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.compress.contract import Ask, Pair, Seen, Transfer, per_text
from retrieval_distill.compress.layer_numbers import numbered
from retrieval_distill.errors import UserError


class AttentionMaps(Transfer):
    """KL divergence of the teacher's attention maps from the student's, mean over heads and real tokens of a text.

    Both need as many attention heads, and attention that is computed step by step, which is slower than the fused
    kernels: it is switched on for as long as the transfer needs it.

    Args:
        teacher_layer: Layer of the teacher, from 0 (below 0: from the last one).
        student_layer: Layer of the student, likewise.
    """

    @validate_call
    def __init__(self, teacher_layer: int = -1, student_layer: int = -1) -> None:
        super().__init__()
        self.teacher_layer, self.student_layer = teacher_layer, student_layer

    def bind(self, pair: Pair) -> None:
        """See :meth:`Transfer.bind`."""
        heads = pair.student.heads, pair.teacher.heads
        if heads[0] != heads[1]:
            raise UserError(
                f"compress.transfers.attention_maps: the student has {heads[0]} attention heads, the teacher "
                f"{heads[1]}; take relations instead, whose heads are free"
            )
        student = numbered(self.student_layer, pair.student.layers, "attention_maps.student_layer")
        teacher = numbered(self.teacher_layer, pair.teacher.layers, "attention_maps.teacher_layer")
        self.student_asks: tuple[Ask, ...] = (("attention", student),)
        self.teacher_asks: tuple[Ask, ...] = (("attention", teacher),)

    def forward(self, student: Seen, teacher: Seen, mask: Tensor) -> Tensor:
        """See :meth:`Transfer.forward`."""
        own, wanted = student[self.student_asks[0]], teacher[self.teacher_asks[0]]
        own, wanted = (maps.to(torch.promote_types(maps.dtype, torch.float32)) for maps in (own, wanted))
        smallest = torch.finfo(own.dtype).tiny  # what no softmax of finite logits is told apart from 0 by
        divergence = (wanted * (wanted.clamp_min(smallest).log() - own.clamp_min(smallest).log())).sum(dim=-1)
        return per_text(divergence.mean(dim=1), mask)
