"""Builds a student from any encoder or sentence-transformers model, in full or reduced in several ways.

The result consists of the library's own modules, so it loads with ``SentenceTransformer(path)`` (adapters must be
merged first). Knows the order of the steps; must not know their details, data or training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

from sentence_transformers import SentenceTransformer
from torch import nn

from retrieval_distill.config import StudentConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.student import adapter, encoder, head, layer_selection, layers, routes, vocabulary
from retrieval_distill.student.routes import Kind


def build(
    config: StudentConfig,
    texts: Mapping[Kind, Texts] | None = None,
    score: Callable[[SentenceTransformer], float] | None = None,
) -> SentenceTransformer:
    """A student ready for training, in float32.

    Args:
        config: The recipe's section.
        texts: The corpus, by kind, for ``vocabulary``.
        score: Quality of an untrained student, for ``layers: auto:N``; higher is better.

    Raises:
        UserError: The model cannot be loaded, or an option does not fit it.
    """
    model = _one_encoder(config, texts, score)
    if config.query_model is not None:
        own = {"model": config.query_model, "layers": None, "pooling": None}
        model = routes.combine(_one_encoder(config.model_copy(update=own), texts, score), model)
    elif config.separate:
        model = routes.combine(copy.deepcopy(model), model)
    if config.lora is not None:
        adapter.add(model, config.lora)
    if config.freeze_documents:
        routes.freeze(model, "document")
    model.model_card_data.base_model = config.model
    model.model_card_data.generate_widget_examples = False
    return model


def _one_encoder(
    config: StudentConfig,
    texts: Mapping[Kind, Texts] | None,
    score: Callable[[SentenceTransformer], float] | None,
) -> SentenceTransformer:
    model = encoder.load(config.model, "float32", config.max_length, learns=True)
    encoder.require_transformers(config.model, model)
    _refuse_two_encoders(model, config)
    head.set_similarity(model, config.similarity)
    for kind, prompt in (("query", config.query_prompt), ("document", config.document_prompt)):
        if prompt is not None:
            model.prompts[kind] = prompt
    if config.pooling is not None:
        head.set_pooling(model, config.pooling)
    if config.layers is not None:
        keep_layers(model, config.layers, score)
    if config.vocabulary is not None:
        if texts is None:
            raise UserError(f"student.vocabulary={config.vocabulary} needs a dataset's texts; leave it out")
        vocabulary.trim(model, config.vocabulary, texts)
    if config.dimensions is not None:
        head.project(model, config.dimensions)
    return model


def keep_layers(
    model: SentenceTransformer, wanted: str | tuple[int, ...], score: Callable[[SentenceTransformer], float] | None
) -> None:
    """Drop all layers of an encoder except those wanted, in place; ``auto:N`` chooses them by ``score``.

    Raises:
        UserError: There are no such layers, or no score for ``auto:N``.
    """
    if not isinstance(wanted, str) or not wanted.startswith("auto:"):
        return layers.keep_only(model, layers.select(model, wanted))
    if score is None:
        raise UserError(
            f"student.layers={wanted} needs training queries to choose the layers by; name the layers instead"
        )
    candidates = layer_selection.candidates(model, int(wanted.removeprefix("auto:")))
    return layers.keep_only(model, layer_selection.choose(model, candidates, score))


def _refuse_two_encoders(model: SentenceTransformer, config: StudentConfig) -> None:
    for_one = ("layers", "pooling", "vocabulary", "dimensions", "separate", "query_model")
    given = [name for name in for_one if getattr(config, name)]
    if routes.is_routed(model) and given:
        raise UserError(
            f"student.{given[0]}: {config.model!r} already has separate encoders for queries and documents; start "
            "from a model with one encoder, or leave this out"
        )


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
