"""Attention maps, head by head. Knows tensors; must not know models.

Source: Wang et al., "MiniLM: Deep Self-Attention Distillation", 2020, arXiv:2002.10957, section 3.1.
"""

from __future__ import annotations

import torch
from pydantic import validate_call
from torch import Tensor

from retrieval_distill.compress.layer_numbers import layer_index
from retrieval_distill.compress.transfer import ActivationKey, Activations, ModelPair, Transfer, mean_per_text
from retrieval_distill.errors import UserError


class AttentionMaps(Transfer):
    """KL divergence of the teacher's attention maps from the student's, mean over heads and real tokens of a text.

    Both must have the same number of attention heads, and use unfused attention, which is slower; it is enabled while
    the transfer is in use.

    Args:
        teacher_layer: Layer of the teacher, from 0 (below 0: from the last one).
        student_layer: Layer of the student, likewise.
    """

    @validate_call
    def __init__(self, teacher_layer: int = -1, student_layer: int = -1) -> None:
        super().__init__()
        self.teacher_layer, self.student_layer = teacher_layer, student_layer

    def bind(self, pair: ModelPair) -> None:
        """See :meth:`Transfer.bind`."""
        heads = pair.student.heads, pair.teacher.heads
        if heads[0] != heads[1]:
            raise UserError(
                f"compress.transfers.attention_maps: the student has {heads[0]} attention heads, the teacher "
                f"{heads[1]}; use relations instead, which have no such limit"
            )
        student = layer_index(self.student_layer, pair.student.layers, "attention_maps.student_layer")
        teacher = layer_index(self.teacher_layer, pair.teacher.layers, "attention_maps.teacher_layer")
        self.student_keys: tuple[ActivationKey, ...] = (("attention", student),)
        self.teacher_keys: tuple[ActivationKey, ...] = (("attention", teacher),)

    def forward(self, student: Activations, teacher: Activations, mask: Tensor) -> Tensor:
        """See :meth:`Transfer.forward`."""
        own, wanted = student[self.student_keys[0]], teacher[self.teacher_keys[0]]
        own, wanted = (maps.to(torch.promote_types(maps.dtype, torch.float32)) for maps in (own, wanted))
        smallest = torch.finfo(own.dtype).tiny  # avoids log(0)
        divergence = (wanted * (wanted.clamp_min(smallest).log() - own.clamp_min(smallest).log())).sum(dim=-1)
        return mean_per_text(divergence.mean(dim=1), mask)
