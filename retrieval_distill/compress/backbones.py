"""Any encoder as one that gives sentence vectors: a bi-encoder as it is, of a cross-encoder what stands under its head.

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
from retrieval_distill.teacher.opening import open_model


def load(name: str, dtype: str = "float32", learns: bool = False) -> SentenceTransformer:
    """An encoder in evaluation mode, on the best device; a cross-encoder's pools the mean.

    Args:
        name: See :func:`retrieval_distill.models.resolve`; a cross-encoder may be an adapter.
        dtype: As for :func:`retrieval_distill.student.encoder.load`.
        learns: Whether its weights are going to change.

    Raises:
        UserError: The model is not to be had, or has two encoders.
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
        raise UserError(f"compress: {name!r} has one encoder for queries and one for documents; give a model of one")
    return loaded


def _classifies(folder: Path) -> bool:
    """Whether a folder holds a cross-encoder: a classification head, or an adapter, which only these have here."""
    config = folder / "config.json"
    heads = models.settings(config).get("architectures") or [] if config.is_file() else []
    return models.adapter_base(folder) is not None or any("SequenceClassification" in head for head in heads)
