"""What every training has in common: of the student, of compression, of a teacher."""

from __future__ import annotations

from pydantic import Field

from retrieval_distill.config.section import Section


class OptimiserConfig(Section):
    """How weights move."""

    warmup: float = Field(0.1, ge=0, le=1)
    """Share of the steps in which the learning rate rises; it then falls linearly to 0."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    dropout: float | None = Field(0.0, ge=0, lt=1)
    """Dropout in training; ``None`` keeps the model's. Distillation needs none, and it is slow."""
    bf16: bool | None = None
    """The transformer computes in bfloat16, its weights stay float32; ``None``: where it is native."""
