"""The module that the trainer optimises: a batch in, the loss and its components out.

Knows vectors and similarities; must not know how a batch was drawn or how the loss is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from retrieval_distill.objectives import CandidateLists, Mix, Vectors
from retrieval_distill.objectives.views import FULL, View
from retrieval_distill.student import encoder
from retrieval_distill.training import distributed
from retrieval_distill.training.cross_batch_memory import Memory


class DistillationModel(nn.Module):
    """A student with its objectives, and a projection where an embedding teacher needs one.

    Args:
        student: The bi-encoder.
        objectives: The weighted losses to minimise.
        scale: Multiplies every similarity.
        dtype: The transformer's compute dtype; ``None``: that of its weights.
        cache_texts: Gradient caching, see :func:`retrieval_distill.student.encoder.encode_rows`.
        views: Forms of the vectors on which the objectives are computed; by default the full vectors.
        teacher_dimensions: Dimensions of the embedding teacher's vectors. If the student's differ, a linear projection
            is trained with the student and not saved. ``None``: there is no embedding teacher.
        memory: Vectors of earlier steps' documents; ``None``: no memory.
    """

    accepts_loss_kwargs = False
    """Makes the trainer average the loss over accumulated micro-steps; it would infer the opposite from ``forward``."""

    def __init__(
        self,
        student: SentenceTransformer,
        objectives: Mix,
        scale: float,
        dtype: torch.dtype | None = None,
        cache_texts: int | None = None,
        views: Sequence[View] = (View(FULL, 1.0),),
        teacher_dimensions: int | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.student = student
        self.objectives = objectives
        self.scale = scale
        self.cache_texts = cache_texts
        self.views = views
        self.memory = memory
        self.projection: nn.Module = nn.Identity()
        dimensions = int(student.get_embedding_dimension() or 0)
        if teacher_dimensions not in (None, dimensions):
            self.projection = nn.Linear(dimensions, teacher_dimensions, bias=False, device=student.device)
        self.progress = 0.0
        """Fraction of the training that is done, for scheduled objectives; set by the trainer."""

    def forward(self, queries: list[Any], documents: list[Any], **batch: Any) -> dict[str, Any]:
        """One step; see :class:`retrieval_distill.training.batches.Collator` for the batch.

        Returns:
            ``loss``; ``components`` by name (``NAME@VIEW`` for views other than ``full``); ``tokens``, the number of
            tokens in the step's texts, and ``padded``, that number with padding.
        """
        rows = [*queries, *documents]
        is_query = np.arange(len(rows)) < len(queries)
        lengths = np.array([len(row) for row in rows])
        shares = distributed.split_by_length(lengths)
        embedded = self._embed(rows, is_query, shares)
        vectors = Vectors(embedded[: len(queries)], embedded[len(queries) :])
        remembered = vectors.documents[:0]
        if self.memory is not None:
            remembered = self.memory.recall(batch["remembered"], vectors.documents)
            self.memory.store(batch["document_ids"], vectors.documents, batch["remembered"])
        loss, components = embedded.new_zeros(()), dict[str, Tensor]()
        for view in self.views:
            value, parts = self.objectives(self._lists(view, vectors, remembered, batch), self.progress)
            loss = loss + view.weight * value
            suffix = "" if view.name == FULL else f"@{view.name}"
            components |= {f"{name}{suffix}": part.detach() for name, part in parts.items()}
        return {
            "loss": loss,
            "components": components,
            "tokens": int(lengths.sum()),
            "padded": sum(self._padded_tokens(lengths[share], is_query[share]) for share in shares),
        }

    def _lists(self, view: View, vectors: Vectors, remembered: Tensor, batch: dict[str, Tensor]) -> CandidateLists:
        """The objectives' input for one view."""
        every = Vectors(vectors.queries, torch.cat([vectors.documents, remembered])) if len(remembered) else vectors
        added, whole = batch.get("lexical", 0), view.name == FULL
        in_batch = self._similarities(view(every)) + added
        teacher = None
        if "teacher_queries" in batch:
            teacher = Vectors(batch["teacher_queries"], batch["teacher_documents"])
        return CandidateLists(
            in_batch.gather(1, batch["positions"]),
            batch["teacher"],
            batch["labels"],
            batch["mask"],
            in_batch,
            batch["in_batch_labels"],
            batch["positions"],
            vectors=self._project(vectors) if whole and teacher else None,
            teacher_vectors=teacher,
            whole=None if whole else self._similarities(every).detach() + added,
        )

    def _similarities(self, vectors: Vectors) -> Tensor:
        return self.scale * vectors.queries @ vectors.documents.T

    def _project(self, vectors: Vectors) -> Vectors:
        return Vectors(self.projection(vectors.queries), self.projection(vectors.documents))

    def _embed(self, rows: list[Any], is_query: np.ndarray, shares: list[np.ndarray]) -> Tensor:
        if len(shares) == 1:
            return encoder.encode_rows(self.student, rows, self.dtype, self.cache_texts, is_query)
        mine = distributed.own_rows(shares)
        own = [rows[row] for row in mine]
        return distributed.gather(
            encoder.encode_rows(self.student, own, self.dtype, self.cache_texts, is_query[mine]), shares
        )

    def _padded_tokens(self, lengths: np.ndarray, is_query: np.ndarray) -> int:
        batches = encoder.sub_forwards(self.student, lengths, self.cache_texts, is_query)
        return sum(len(batch) * int(lengths[batch].max()) for batch in batches)
