"""The options of ``fit-teacher``.

Knows names, types and bounds; must not know how a teacher is trained.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retrieval_distill.config import OptimiserConfig
from retrieval_distill.packaged import MINILM


class FitTeacherConfig(OptimiserConfig):
    """How a cross-encoder is fine-tuned on judged queries."""

    model: str = MINILM
    """Start: hub id, folder or ``packaged:all-MiniLM-L6-v2``; a cross-encoder, or an encoder that is given a head."""
    loss: Literal["listwise", "binary", "lambda"] = "listwise"
    """Softmax cross-entropy over the list, relevant-or-not pair by pair, or LambdaLoss (nDCG)."""
    adapter: Literal["lora", "none"] = "lora"
    """``lora`` trains low-rank adapters and the head, ``none`` every weight."""
    lora_rank: int = Field(32, ge=1)
    """Rank of the adapters."""
    max_length: int = Field(256, ge=8)
    """Tokens of a query-passage pair, at most the model's own limit."""
    candidates: int = Field(6, ge=2)
    """Documents per query and step: one relevant, the others drawn from its candidates anew each epoch."""
    queries_per_step: int = Field(16, ge=1)
    """Queries of one optimiser step (per device)."""
    steps: int | None = Field(None, ge=1)
    """Optimiser steps; ``None``: as many as ``epochs`` need."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the training queries, where ``steps`` is not given."""
    learning_rate: float | None = Field(None, gt=0)
    """Peak learning rate of AdamW; ``None``: 8e-4 with ``lora``, 5e-5 without."""
    evaluate_every: int = Field(50, ge=1)
    """Steps between evaluations on the dev queries, and between checkpoints: the most that a crash costs."""
    patience: int | None = Field(3, ge=1)
    """Evaluations without a better dev nDCG@10 after which training stops; ``None``: never."""
    dev_queries: int = Field(200, ge=1)
    """Dev queries asked, drawn by the seed."""
    dev_depth: int = Field(20, ge=1)
    """Candidates per dev query, its relevant documents always among them."""
    seed: int = 7
    """Fixes fresh weights, the order of queries and the draw of their candidates."""

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate that is used."""
        return self.learning_rate or (8e-4 if self.adapter == "lora" else 5e-5)
