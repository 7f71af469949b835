"""How a small encoder is made of a larger one on plain text, before it learns to retrieve."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from retrieval_distill.config.optimiser import OptimiserConfig


class CompressConfig(OptimiserConfig):
    """A student made of an encoder and taught by one, on plain text."""

    model: str | None = None
    """Encoder that the student is made of (hub id, folder, packaged; a cross-encoder gives its backbone); ``None``: in
    a recipe ``student.model`` (of a chain: the step before), else ``teacher``."""
    teacher: str | None = None
    """Encoder that is imitated; ``None``: ``model`` as it was."""
    layers: tuple[int, ...] | Annotated[str, Field(pattern=r"^(first|last|spaced|auto):[1-9][0-9]*$")] | None = None
    """Layers to keep, as in ``student.layers``; ``None``: all. ``auto:N`` keeps those of the spaced ones and every N
    neighbours whose vectors of 200 of the texts are nearest to the whole model's."""
    width: int | None = Field(None, ge=1)
    """Width of hidden states, attention and neurons cut down alike, by singular values; ``None``: as it is."""
    weights: Literal["kept", "random"] = "kept"
    """Whether the student starts with what it kept of the model's weights, or anew."""
    vocabulary: Literal["corpus"] | Annotated[int, Field(ge=1)] | None = None
    """Tokens to keep, as in ``student.vocabulary``."""
    transfers: dict[str, float | tuple[float, float] | dict[str, Any]] = {"embedding": 1.0}
    """Transfer -> weight, ``[weight at the start, at the end]``, or ``{weight, from, until, options}``; names are
    ``relations``, ``attention_maps``, ``hidden_states``, ``logits``, ``embedding``; the default is the first choice of
    ``scripts/study_compression.md``."""
    depths: tuple[Annotated[int, Field(ge=2)], ...] = ()
    """Numbers of layers that the student shall also serve at, by ``student.layers: spaced:N`` and no further training:
    each batch trains one of these depths or the whole, drawn by the seed."""
    self_distillation: float = Field(0.0, ge=0)
    """Weight of the cosine distance to the whole student's vectors, for batches at one of the ``depths``."""
    masked: float = Field(0.0, ge=0, lt=1)
    """Share of the tokens that both see as masked, drawn by the seed; for ``logits``, 0.15 is the custom."""
    teacher_cache: str | None = None
    """Folder that keeps what the teacher makes of each text, for later passes over the texts and for other students of
    the same teacher and texts; about 1.5 kB a token for every hidden state of width 384 in float32, half in bfloat16.
    ``None``: the teacher is asked every time."""
    tokens: int = Field(2_000_000, ge=1)
    """Tokens of text to learn from, repeated where there are fewer; ignored where ``steps`` are given."""
    steps: int | None = Field(None, ge=1)
    """Optimiser steps; ``None``: as many as ``tokens`` need."""
    tokens_per_step: int = Field(8192, ge=1)
    """Tokens of one optimiser step, padding counted."""
    max_length: int = Field(128, ge=8)
    """Token limit of a text in training; the student keeps the model's own."""
    learning_rate: float = Field(3e-4, gt=0)
    """Peak learning rate of AdamW."""
    save_steps: int = Field(100, ge=1)
    """Steps between checkpoints: the most that a crash costs."""
