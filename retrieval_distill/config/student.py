"""Who learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from retrieval_distill.config.section import Section


class LoRAConfig(Section):
    """Training through low-rank matrices beside frozen weights; they are merged into these when the student is saved.

    Memory for gradients and optimiser falls to that of the small matrices. They want a higher ``learning_rate`` than
    whole weights do: 1e-4 to 5e-4.
    """

    rank: int = Field(16, ge=1)
    """Rank of the matrices; practice ranges from 8 to 64."""
    alpha: int = Field(32, ge=1)
    """What they add is scaled by ``alpha / rank``; twice the rank is the custom."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Every linear layer, or those whose names end so (``[query, value]``)."""


class StudentConfig(Section):
    """The bi-encoder to train."""

    model: str = "distilbert/distilbert-base-uncased"
    """Any encoder, decoder or sentence-transformers model: hub id, folder, or ``packaged:all-MiniLM-L6-v2``."""
    layers: tuple[int, ...] | Annotated[str, Field(pattern=r"^(first|last|spaced|auto):[1-9][0-9]*$")] | None = None
    """Layers to keep: their numbers from 0 (``[0, 2, 5]``), or how many and which, as ``spaced:3``; ``None``: all.

    ``first:N`` and ``last:N`` are those next to the input and the output; ``spaced:N`` goes from the first to the
    last as evenly as possible. ``auto:N`` tries the spaced ones and every N neighbours, and keeps those whose
    untrained student ranks the candidates of up to 200 training queries best (nDCG@10).
    """
    pooling: Literal["mean", "cls", "last", "max", "weightedmean"] | None = None
    """How token vectors become one; ``None`` keeps the model's own (plain encoders: mean, decoders: last)."""
    dimensions: int | None = Field(None, ge=1)
    """Length of the vectors, by a linear map that is trained along; ``None`` keeps the model's own."""
    vocabulary: Literal["corpus"] | Annotated[int, Field(ge=1)] | None = None
    """``corpus`` keeps only tokens of the documents and training queries, a number so many of them; ``None``: all.

    Characters stay, so that new texts can be cut. The vectors of these texts stay as they are under ``corpus``.
    """
    separate: bool = False
    """Whether queries and documents get encoders of their own, equal at the start; the student is twice as large."""
    query_model: str | None = None
    """A model for queries alone, often a smaller one, kept whole; ``model`` then embeds documents only."""
    freeze_documents: bool = False
    """With ``separate`` or ``query_model``: train the query encoder alone; documents keep ``model``'s vectors."""
    lora: LoRAConfig | None = None
    """Train through adapters (``{}`` for their defaults); ``None`` trains all weights."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Similarity in training, index and evaluation."""
    scale: float = Field(20.0, gt=0)
    """Factor on similarities in training, so that they can reach the teacher's margins (1 suits ``dot``)."""
    max_length: int = Field(256, ge=8)
    """Token limit, saved in the student."""
    query_prompt: str | None = None
    """Put before every query, saved in the student; ``None`` keeps the model's own."""
    document_prompt: str | None = None
    """Put before every document, saved in the student; ``None`` keeps the model's own."""
