"""Sets up a student: its layers, width, weights and vocabulary.

Knows the order of the steps; must not know training.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from retrieval_distill.compress import backbones, narrow
from retrieval_distill.config import CompressConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.student import build, encoder, vocabulary

SAMPLE = 200
"""Number of texts whose vectors ``layers: auto:N`` compares."""


def student(config: CompressConfig, name: str, texts: Texts, seed: int) -> tuple[SentenceTransformer, Tensor | None]:
    """A student ready for training, in float32, and the basis of its coordinates.

    Args:
        config: The recipe's section.
        name: The encoder it is made from.
        texts: Plain texts, for ``vocabulary`` and ``layers: auto:N``.
        seed: Random seed of weights and of the sample of texts.

    Returns:
        The student, and a basis [width of the model, width of the student] with orthonormal columns; ``None`` if the
        width is unchanged or the weights are random.

    Raises:
        UserError: The model cannot be loaded, or an option does not fit it.
    """
    model, basis = backbones.load(name, learns=True), None
    if config.layers is not None:
        build.keep_layers(model, config.layers, _likeness(model, texts, seed))
    if config.width is not None:
        basis = narrow.narrow(model, config.width)
    if config.weights == "random":
        torch.manual_seed(seed)
        backbone: Any = model[0].auto_model
        model[0].model, basis = type(backbone)(backbone.config).to(model.device).eval(), None
    if config.vocabulary is not None:
        vocabulary.trim(model, config.vocabulary, {"document": texts})
    if config.dropout is not None:
        build.set_dropout(model, config.dropout)
    model.model_card_data.base_model = name
    model.model_card_data.generate_widget_examples = False
    return model, basis


def _likeness(whole: SentenceTransformer, texts: Texts, seed: int) -> Callable[[SentenceTransformer], float]:
    """Mean cosine of an encoder's vectors with the full encoder's, over a sample of texts."""
    sample = texts.sample(SAMPLE, seed).take()

    @cache
    def wanted() -> Tensor:
        return torch.from_numpy(encoder.encode(whole, sample, "document"))

    def score(model: SentenceTransformer) -> float:
        found = torch.from_numpy(encoder.encode(model, sample, "document"))
        return float(torch.cosine_similarity(found, wanted()).mean())

    return score
