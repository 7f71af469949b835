"""Building a student: from any encoder or sentence-transformers model, whole or with some of its layers.

The result is made of the library's own modules alone, so it loads with ``SentenceTransformer(path)``. Knows model
architecture; must not know data or training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize
from torch import nn

from retrieval_distill.config import StudentConfig
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder


def build(config: StudentConfig) -> SentenceTransformer:
    """A student ready to train, in float32.

    Raises:
        UserError: The model is not to be had, or a layer to keep does not exist.
    """
    model = encoder.load(config.model, "float32", config.max_length)
    if config.layers is not None:
        keep_layers(model, config.layers)
    normalized = isinstance(model[-1], Normalize)
    if config.similarity == "cosine" and not normalized:
        model.append(Normalize())
    if config.similarity == "dot" and normalized:
        del model[-1]
    model.similarity_fn_name = config.similarity
    for kind, prompt in (("query", config.query_prompt), ("document", config.document_prompt)):
        if prompt is not None:
            model.prompts[kind] = prompt
    model.model_card_data.base_model = config.model
    model.model_card_data.generate_widget_examples = False
    return model


def keep_layers(model: SentenceTransformer, layers: Sequence[int]) -> None:
    """Drop all transformer layers but these, in place (the paper's "student from teacher's layers").

    Args:
        model: Any encoder whose layers stand in one list (BERT, RoBERTa, DistilBERT, MPNet, ModernBERT, ...).
        layers: Layers to keep, counted from 0, in the order they shall have.

    Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019 (initialisation from every other layer).

    Raises:
        UserError: A layer does not exist, none is kept, or the model's layers cannot be found.
    """
    backbone: Any = model[0].auto_model
    count = backbone.config.num_hidden_layers
    wrong = [layer for layer in layers if not 0 <= layer < count]
    if wrong or not layers:
        raise UserError(f"student.layers: {list(layers)} - this model has layers 0 to {count - 1}")
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                setattr(parent, name, nn.ModuleList([child[layer] for layer in layers]))
                backbone.config.num_hidden_layers = len(layers)
                return
    raise UserError(f"student.layers: cannot find the layers of a {type(backbone).__name__}")


def set_dropout(model: nn.Module, probability: float) -> None:
    """Set every dropout probability of a model, attention's included, in place."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = probability
        elif isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = probability  # type: ignore[assignment]


def parameters(model: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
