"""Which modules a cross-encoder consists of, and whether its pairs may be scored in batches of our own.

Knows the library's modules; must not know pairs, stores or devices.
"""

from __future__ import annotations

from typing import Any

from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling

from retrieval_distill.teacher import first_token, shared_prefix

KNOWN = (Pooling, Dense, LayerNorm, Normalize, Dropout)
"""Modules behind a transformer that compute the same in whichever batch a pair stands."""


def obstacle(model: CrossEncoder) -> str | None:
    """What keeps pairs from being scored in our own batches; ``None``: nothing.

    Args:
        model: In float32, in evaluation mode, with a tokenizer that can pad.
    """
    first: Any = model[0]
    if not isinstance(first, Transformer):
        return f"its first module is a {type(first).__name__}"
    if first.tokenizer is None:
        return "it has no tokenizer"
    if shared_prefix.is_decoder(model):
        same = shared_prefix.agrees(model, prompt(model))
        return None if same else f"a {type(first.model).__name__} gives other scores where a prefix is shared"
    later = list(model)[1:]
    for module in later:
        if type(module) not in KNOWN:
            return f"it has a module {type(module).__name__}"
        if isinstance(module, Pooling) and not module.include_prompt and prompt(model):
            return "its Pooling leaves the prompt out"
    task = "feature-extraction" if later else "sequence-classification"
    return None if first.transformer_task == task else f"its transformer is one for {first.transformer_task}"


def prompt(model: CrossEncoder) -> str | None:
    """What the library writes before every pair."""
    return (model.prompts or {}).get(model.default_prompt_name or "") or None


def modality(model: CrossEncoder) -> str:
    """The library's name for how a model takes its texts: as they are, or as messages of a chat."""
    first: Any = model[0]
    return "message" if "message" in first.modality_config else "text"


def read(model: CrossEncoder) -> first_token.Read | None:
    """What a transformer's output is read for, where that may be its first token."""
    if len(model) == 1:
        return first_token.logits
    pooling = model[1]
    reads_first = isinstance(pooling, Pooling) and pooling.pooling_mode == "cls"
    return first_token.first_token if reads_first else None
