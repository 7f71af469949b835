"""A student under its objectives: a batch in, the loss and its components out.

Knows vectors and similarities; must not know how a batch was drawn or what becomes of the loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from retrieval_distill.objectives import CandidateLists, Mix
from retrieval_distill.student import encoder
from retrieval_distill.training import ranks


class DistillationModel(nn.Module):
    """What the trainer trains.

    Args:
        student: The bi-encoder.
        objectives: What is minimised.
        scale: Factor on similarities.
        dtype: What the transformer computes in; ``None``: its weights' own.
        cache_texts: Gradient caching, see :func:`retrieval_distill.student.encoder.encode_rows`.
    """

    accepts_loss_kwargs = False
    """Tells the trainer that accumulated micro-steps are its to average; it would infer the opposite."""

    def __init__(
        self,
        student: SentenceTransformer,
        objectives: Mix,
        scale: float,
        dtype: torch.dtype | None = None,
        cache_texts: int | None = None,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.student = student
        self.objectives = objectives
        self.scale = scale
        self.cache_texts = cache_texts
        self.progress = 0.0
        """Share of the training that is done, for objectives that come and go; set by the trainer."""

    def forward(self, queries: list[Any], documents: list[Any], **batch: Any) -> dict[str, Any]:
        """One step; see :class:`retrieval_distill.training.batches.Collator` for the batch.

        Returns:
            ``loss``; ``components`` by name; ``tokens`` of the step's texts and ``padded`` tokens computed for them.
        """
        rows = [*queries, *documents]
        is_query = np.arange(len(rows)) < len(queries)
        lengths = np.array([len(row) for row in rows])
        shares = ranks.shares(lengths)
        vectors = self._embed(rows, is_query, shares)
        in_batch = self.scale * vectors[: len(queries)] @ vectors[len(queries) :].T
        student = in_batch.gather(1, batch["positions"])
        lists = CandidateLists(
            student, batch["teacher"], batch["labels"], batch["mask"], in_batch, batch["in_batch_labels"],
            batch["positions"],
        )  # fmt: skip
        loss, components = self.objectives(lists, self.progress)
        return {
            "loss": loss,
            "components": {name: value.detach() for name, value in components.items()},
            "tokens": int(lengths.sum()),
            "padded": sum(self._padded(lengths[share], is_query[share]) for share in shares),
        }

    def _embed(self, rows: list[Any], is_query: np.ndarray, shares: list[np.ndarray]) -> Tensor:
        if len(shares) == 1:
            return encoder.encode_rows(self.student, rows, self.dtype, self.cache_texts, is_query)
        mine = ranks.mine(shares)
        own = [rows[row] for row in mine]
        return ranks.gather(
            encoder.encode_rows(self.student, own, self.dtype, self.cache_texts, is_query[mine]), shares
        )

    def _padded(self, lengths: np.ndarray, is_query: np.ndarray) -> int:
        batches = encoder.sub_forwards(self.student, lengths, self.cache_texts, is_query)
        return sum(len(batch) * int(lengths[batch].max()) for batch in batches)
