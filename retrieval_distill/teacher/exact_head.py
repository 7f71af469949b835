"""A cross-encoder's head in float32 where its layers compute in fewer bits.

bfloat16 tells 256 values apart between one power of two and the next, so that many of a query's pairs would have the
same logit, and their ids would order them. The head is a thousandth of the work. Knows where a head is; must not know
pairs or scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


def arithmetic(dtype: str) -> dict[str, str]:
    """What a cross-encoder's scores are computed in, for fingerprints, by the name of its layers' dtype."""
    beside = {"float32": {}, "int8": {"scales": "by token"}}  # int8 scores of before had a scale for a whole batch
    return {"dtype": dtype, **beside.get(dtype, {"head": "float32"})}


def keep(model: CrossEncoder) -> None:
    """Let all that comes after the layers compute in float32, from hidden states as they are, in place."""
    keep_two_logits(model)
    for module in _head(model):
        module.float()
        module.register_forward_pre_hook(_widen, with_kwargs=True)


def _head(model: CrossEncoder) -> Iterator[nn.Module]:
    """Pooler and classifier of a classification model, the output layer of a language model, modules behind either."""
    transformer: Any = model.model
    encoder = getattr(transformer, transformer.base_model_prefix, transformer)
    if encoder is not transformer:
        yield from (module for module in transformer.children() if module is not encoder)
    pooler = getattr(encoder, "pooler", None)
    if isinstance(pooler, nn.Module):
        yield pooler
    yield from list(model)[1:]


def keep_two_logits(model: CrossEncoder) -> None:
    """Of a language model's output layer keep the rows of the answers that are read, in place; no others ever are."""
    from sentence_transformers.cross_encoder.modules import LogitScore

    answers: Any = model[-1]
    transformer: Any = model.model
    layer = transformer.get_output_embeddings() if isinstance(answers, LogitScore) else None
    if not isinstance(layer, nn.Linear):
        return
    rows = [answers.true_token_id, *([] if answers.false_token_id is None else [answers.false_token_id])]
    read = nn.Linear(layer.in_features, len(rows), layer.bias is not None, device=layer.weight.device)
    read.weight = nn.Parameter(layer.weight[rows].detach(), requires_grad=False)
    if layer.bias is not None:
        read.bias = nn.Parameter(layer.bias[rows].detach(), requires_grad=False)
    transformer.set_output_embeddings(read)
    answers.true_token_id, answers.false_token_id = 0, None if answers.false_token_id is None else 1


def _widen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    return tuple(map(_float32, args)), {name: _float32(value) for name, value in kwargs.items()}


def _float32(value: Any) -> Any:
    if isinstance(value, Mapping):  # a tokenizer's output is no dict
        return {name: _float32(part) for name, part in value.items()}
    return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
