"""Loads any encoder as one that gives sentence vectors: a bi-encoder, or a cross-encoder without its head.

Knows saved models; must not know what they teach or learn.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sentence_transformers import SentenceTransformer

from retrieval_distill import models, weights
from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices
from retrieval_distill.student import encoder, routes
from retrieval_distill.teacher.cross_encoder_loader import open_model


def load(name: str, dtype: str = "float32", learns: bool = False) -> SentenceTransformer:
    """Load an encoder in evaluation mode, on the best device; a cross-encoder gets mean pooling.

    Args:
        name: See :func:`retrieval_distill.models.resolve`; a cross-encoder may be an adapter.
        dtype: As for :func:`retrieval_distill.student.encoder.load`.
        learns: Whether its weights will change.

    Raises:
        UserError: The model cannot be loaded, or has two encoders.
    """
    folder = models.resolve(name)
    if _classifies(folder):
        model: Any = open_model(folder, devices.device())
        with TemporaryDirectory() as backbone:
            weights.save(model.model.base_model, Path(backbone))
            model.tokenizer.save_pretrained(backbone)
            return encoder.load(backbone, dtype, learns=learns)
    loaded = encoder.load(name, dtype, learns=learns)
    encoder.require_transformers(name, loaded)
    if routes.is_routed(loaded):
        raise UserError(
            f"compress: {name!r} has separate encoders for queries and documents; give a model with one encoder"
        )
    return loaded


def _classifies(folder: Path) -> bool:
    """Whether a folder holds a cross-encoder: a classification head or an adapter, which bi-encoders never have."""
    config = folder / "config.json"
    heads = models.settings(config).get("architectures") or [] if config.is_file() else []
    return models.adapter_base(folder) is not None or any("SequenceClassification" in head for head in heads)
