"""Decoders that answer yes or no: one forward pass, in which what all pairs start with is computed once.

The chat template before the query, and the query too where all pairs have the same, is the same text for every pair; a
causal model's keys and values of it do not depend on what follows. Knows the library's causal language models; must not
know texts or stores.
"""

from __future__ import annotations

import copy
from typing import Any
from weakref import WeakKeyDictionary

import torch
from sentence_transformers import CrossEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.cross_encoder.modules import LogitScore
from torch import Tensor, nn

from retrieval_distill.teacher import first_token
from retrieval_distill.teacher.pairs import Continued, Whole


def is_decoder(model: CrossEncoder) -> bool:
    """Whether a model is a language model whose next token is the answer."""
    first = model[0]
    return (
        isinstance(first, Transformer)
        and first.transformer_task == "text-generation"
        and [type(module) for module in list(model)[1:]] == [LogitScore]
        and isinstance(first.model.get_output_embeddings(), nn.Linear)
    )


@torch.inference_mode()
def agrees(model: CrossEncoder, prompt: str | None) -> bool:
    """Whether :func:`scores` gives the library's scores, shown by two pairs in float32: not of layers of all kinds."""
    pairs = [("a", "a"), ("a", "a b c d e f g h")]
    expected = torch.cat([model(_on(model, model.preprocess([pair], prompt=prompt)))["scores"] for pair in pairs])
    try:
        whole = Whole.of(model[0], pairs, prompt)
        features = Continued(whole, whole.shared).features(whole.rows)
        found = scores(model, {name: torch.from_numpy(value).to(model.device) for name, value in features.items()})
    except Exception:  # a cache of another kind, or none
        return False
    return first_token.agrees(found, expected)


def scores(model: CrossEncoder, features: dict[str, Tensor]) -> Tensor:
    """Raw scores [pairs, 1].

    Args:
        model: See :func:`is_decoder`.
        features: ``input_ids`` and ``attention_mask`` [pairs, tokens], padded on the right, of what follows ``prefix``
            [tokens]. No later token changes what a causal model makes of an earlier one, so that padding needs no mask.
    """
    transformer: Any = model.model
    answers: Any = model[1]
    ids, ends = features["input_ids"], features["attention_mask"].sum(dim=1) - 1
    past = _keys_and_values(transformer, features["prefix"], len(ids)) if len(features["prefix"]) else None
    logits = transformer(input_ids=ids, past_key_values=past, use_cache=past is not None).logits
    last = logits[torch.arange(len(ids), device=ids.device), ends][:, None]
    return answers({answers.module_input_name: last})["scores"]


def _keys_and_values(transformer: nn.Module, prefix: Tensor, pairs: int) -> Any:
    """What the prefix leaves behind in every layer, once for each pair."""
    key = tuple(prefix.tolist())
    if _LEFT_BEHIND.get(transformer, ((), None))[0] != key:
        states = transformer(input_ids=prefix[None], use_cache=True, logits_to_keep=1).past_key_values
        _LEFT_BEHIND[transformer] = key, states
    own = copy.deepcopy(_LEFT_BEHIND[transformer][1])  # which grows by what follows
    own.batch_repeat_interleave(pairs)
    return own


_LEFT_BEHIND: WeakKeyDictionary[nn.Module, tuple[tuple[int, ...], Any]] = WeakKeyDictionary()


def _on(model: CrossEncoder, features: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in features.items()}
