"""A student under its transfers: a batch of token rows in, the loss and its components out.

Knows encoders and transfers; must not know how a batch was drawn or what becomes of the loss.
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
from retrieval_distill.compress.contract import VECTOR, Seen
from retrieval_distill.compress.teacher_cache import TeacherCache
from retrieval_distill.compress.transfers import Transfers
from retrieval_distill.student import layers


class CompressionModel(nn.Module):
    """What the trainer trains: the student, and the projections of its transfers.

    Args:
        student: The encoder to train.
        teacher: The encoder to imitate; it stays as it is and is no part of what is saved.
        transfers: What is minimised.
        dtype: What the student computes in; ``None``: its weights' own.
        depths: Depths that batches are drawn at, beside the whole.
        self_distillation: Weight of the cosine distance between a batch's vectors at a depth and the whole student's.
        seed: Of the draw of depths.
        kept: What the teacher made of the texts in earlier passes; ``None``: it is asked every time.
    """

    accepts_loss_kwargs = False
    """Tells the trainer that accumulated micro-steps are its to average; it would infer the opposite."""

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
        self._see = (Captures(student, transfers.student_asks), Captures(teacher, transfers.teacher_asks))
        self.progress = 0.0
        """Share of the training that is done; set by the trainer."""

    def forward(
        self,
        student: Sequence[np.ndarray],
        teacher: Sequence[np.ndarray],
        number: int,
        rows: np.ndarray | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """One batch; see :class:`retrieval_distill.compress.texts.Collator`.

        Returns:
            ``loss``; ``components`` by name; ``tokens`` of the batch's texts and ``padded`` tokens computed for them.
        """
        wanted = self._wanted(teacher, rows)
        weights = None
        if self.dtype is not None:
            weights = {name: weight.to(self.dtype) for name, weight in self.student[0].named_parameters()}
        found, components = self._found(student, weights, number)
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
    def _wanted(self, teacher: Sequence[np.ndarray], rows: np.ndarray | None) -> Seen:
        """What the teacher makes of a batch."""
        if self._kept is None or rows is None:
            return self._see[1](teacher)
        seen = self._kept(rows, lambda: self._see[1](teacher))
        return {ask: values.to(self.student.device) for ask, values in seen.items()}

    def _found(
        self, rows: Sequence[np.ndarray], weights: dict[str, Tensor] | None, number: int
    ) -> tuple[Seen, dict[str, Tensor]]:
        """What the student makes of a batch at the depth drawn for it, and how far that is from the whole student."""
        if not self.depths:
            return self._see[0](rows, weights), {}
        kept = layer_dropping.drawn(self.depths, self._whole, number, self.seed)
        with layer_dropping.only(self.student, kept):
            seen = self._see[0](rows, weights)
        found = {ask: tensor for ask, tensor in seen.items() if ask[0] in GIVEN_AT_ANY_DEPTH or ask[1] in kept}
        if not self.self_distillation or len(kept) == self._whole:
            return found, {}
        with torch.no_grad():
            whole = self._see[0](rows, weights)[VECTOR]
        return found, {"self_distillation": (1 - torch.cosine_similarity(found[VECTOR], whole, dim=-1)).mean()}

    def close(self) -> None:
        """Take the hooks out of both encoders."""
        for see in self._see:
            see.close()


GIVEN_AT_ANY_DEPTH = ("embeddings", "tokens", "vector")
"""Kinds of asks that belong to no layer."""
