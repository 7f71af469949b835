"""The model to train: a student with its transfers; a batch of token rows in, the loss and its components out.

Knows encoders and transfers; must not know how batches are drawn or how the loss is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from retrieval_distill.compress import layer_dropping
from retrieval_distill.compress.captures import Captures, real_tokens
from retrieval_distill.compress.teacher_cache import TeacherCache
from retrieval_distill.compress.transfer import VECTOR, Activations
from retrieval_distill.compress.transfer_mix import Transfers
from retrieval_distill.student import layers


class CompressionModel(nn.Module):
    """The student, and the projections of its transfers.

    Args:
        student: The encoder to train.
        teacher: The encoder to imitate; neither trained nor saved.
        transfers: The loss.
        dtype: Number format of the student's computation; ``None``: that of its weights.
        depths: Depths at which batches are trained, besides the full one.
        self_distillation: Weight of the cosine distance between a batch's vectors at a depth and at full depth.
        seed: Random seed that draws depths.
        kept: Cache of the teacher's activations; ``None``: compute them every time.
    """

    accepts_loss_kwargs = False
    """Tells the trainer to average accumulated micro-steps; it would infer the opposite."""

    def __init__(
        self,
        student: SentenceTransformer,
        teacher: SentenceTransformer,
        transfers: Transfers,
        dtype: torch.dtype | None = None,
        depths: Sequence[int] = (),
        self_distillation: float = 0.0,
        seed: int = 0,
        kept: TeacherCache | None = None,
    ) -> None:
        super().__init__()
        self.student, self.transfers, self.dtype = student, transfers.to(student.device), dtype
        self.depths, self.self_distillation, self.seed = depths, self_distillation, seed
        self._whole, self._kept = layers.count(student) if depths else 0, kept
        self._see = (Captures(student, transfers.student_keys), Captures(teacher, transfers.teacher_keys))
        self.progress = 0.0
        """Share of the training completed; set by the trainer."""

    def forward(
        self,
        student: Sequence[np.ndarray],
        teacher: Sequence[np.ndarray],
        number: int,
        rows: np.ndarray | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """One batch; see :class:`retrieval_distill.compress.text_batches.Collator`.

        Returns:
            ``loss``; ``components`` by name; ``tokens`` of the batch's texts, and ``padded``, tokens including padding.
        """
        wanted = self._run_teacher(teacher, rows)
        weights = None
        if self.dtype is not None:
            weights = {name: weight.to(self.dtype) for name, weight in self.student[0].named_parameters()}
        found, components = self._run_student(student, weights, number)
        mask = real_tokens(student, self.student.device)
        loss, parts = self.transfers(found, wanted, mask, self.progress)
        if "self_distillation" in components:
            loss = loss + self.self_distillation * components["self_distillation"]
        return {
            "loss": loss,
            "components": {name: part.detach() for name, part in (parts | components).items()},
            "tokens": sum(map(len, student)),
            "padded": mask.numel(),
        }

    @torch.no_grad()
    def _run_teacher(self, teacher: Sequence[np.ndarray], rows: np.ndarray | None) -> Activations:
        """The teacher's activations for a batch."""
        if self._kept is None or rows is None:
            return self._see[1](teacher)
        seen = self._kept(rows, lambda: self._see[1](teacher))
        return {ask: values.to(self.student.device) for ask, values in seen.items()}

    def _run_student(
        self, rows: Sequence[np.ndarray], weights: dict[str, Tensor] | None, number: int
    ) -> tuple[Activations, dict[str, Tensor]]:
        """The student's activations at the depth drawn for a batch, and the self-distillation loss, if any."""
        if not self.depths:
            return self._see[0](rows, weights), {}
        kept = layer_dropping.draw_layers(self.depths, self._whole, number, self.seed)
        with layer_dropping.skip_other_layers(self.student, kept):
            seen = self._see[0](rows, weights)
        found = {ask: tensor for ask, tensor in seen.items() if ask[0] in GIVEN_AT_ANY_DEPTH or ask[1] in kept}
        if not self.self_distillation or len(kept) == self._whole:
            return found, {}
        with torch.no_grad():
            whole = self._see[0](rows, weights)[VECTOR]
        return found, {"self_distillation": (1 - torch.cosine_similarity(found[VECTOR], whole, dim=-1)).mean()}

    def close(self) -> None:
        """Remove the hooks from both encoders."""
        for see in self._see:
            see.close()


GIVEN_AT_ANY_DEPTH = ("embeddings", "tokens", "vector")
"""Kinds of activations that belong to no layer."""
