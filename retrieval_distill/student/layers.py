"""Selects layers of an encoder, and builds the encoder that has only these.

Knows model architecture; must not know data or training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from torch import nn

from retrieval_distill.errors import UserError


def first(count: int, keep: int) -> tuple[int, ...]:
    """The ``keep`` layers closest to the input."""
    return tuple(range(keep))


def last(count: int, keep: int) -> tuple[int, ...]:
    """The ``keep`` layers closest to the output."""
    return tuple(range(count - keep, count))


def spaced(count: int, keep: int) -> tuple[int, ...]:
    """Evenly spaced layers, including the first and the last: the i-th is floor(i (count - 1) / (keep - 1) + 1/2).

    6 of 12: 0, 2, 4, 7, 9, 11. A single one is the first.
    """
    return tuple(int(place) for place in np.floor(np.linspace(0, count - 1, keep) + 0.5))


RULES: dict[str, Callable[[int, int], tuple[int, ...]]] = {"first": first, "last": last, "spaced": spaced}


def count(model: SentenceTransformer) -> int:
    """Number of layers."""
    return len(stack(model)[1])


def select(model: SentenceTransformer, layers: str | Sequence[int]) -> tuple[int, ...]:
    """The layers that a recipe names.

    Args:
        model: The encoder.
        layers: Layer numbers from 0, or ``RULE:COUNT`` with a rule of :data:`RULES`.

    Raises:
        UserError: The model has fewer layers.
    """
    if not isinstance(layers, str):
        return tuple(layers)
    rule, number = layers.split(":")
    if int(number) > count(model):
        raise UserError(f"layers={layers}: this model has {count(model)} layers")
    return RULES[rule](count(model), int(number))


def fits(model: SentenceTransformer, layers: Sequence[int]) -> bool:
    """Whether each of these layers has the weights that its new position needs.

    In most architectures all layers are alike. ModernBERT's first layer has no norm before its attention, and T5's
    first layer holds the position bias of all.
    """
    weights = [layer.state_dict().keys() for layer in stack(model)[1]]
    return all(weights[layer] == weights[place] for place, layer in enumerate(layers))


def keep_only(model: SentenceTransformer, layers: Sequence[int]) -> None:
    """Drop all transformer layers except these, in place (the paper's "student from teacher's layers").

    The smaller encoder is built from its own configuration and given the old weights, so that everything that depends
    on a layer's position (its kind of attention, its number in a cache) is as after loading the saved student.

    Args:
        model: Any encoder with its layers in one list (BERT, RoBERTa, DistilBERT, MPNet, ModernBERT, GPT-2, ...).
        layers: Layers to keep, counted from 0, in their new order.

    Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019 (initialisation from every other layer).

    Raises:
        UserError: A layer does not exist or does not fit its new position, none is kept, or the model's layers cannot
            be found.
    """
    backbone: Any = model[0].auto_model
    name, whole = stack(model)
    if not layers or any(not 0 <= layer < len(whole) for layer in layers):
        raise UserError(f"layers: {list(layers)}: this model has layers 0 to {len(whole) - 1}")
    if not fits(model, layers):
        raise UserError(
            f"layers: {list(layers)}: the first layer of a {type(backbone).__name__} differs from the "
            "others; keep layer 0, and as the first"
        )
    slim: Any = type(backbone)(_configuration(backbone.config, layers))
    weights = {key: value for key, value in backbone.state_dict().items() if not key.startswith(f"{name}.")}
    for place, layer in enumerate(layers):
        weights |= {f"{name}.{place}.{key}": value for key, value in whole[layer].state_dict().items()}
    slim.load_state_dict(weights)
    model[0].model = slim.to(backbone.device).train(backbone.training)


def _configuration(config: Any, layers: Sequence[int]) -> Any:
    config = copy.deepcopy(config)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[layer] for layer in layers]
    config.num_hidden_layers = len(layers)
    return config


def stack(model: SentenceTransformer) -> tuple[str, nn.ModuleList]:
    """The list that holds all layers, and its name."""
    return stack_of(model[0].auto_model, "layers")


def stack_of(backbone: Any, option: str) -> tuple[str, nn.ModuleList]:
    """The same of a transformer; ``option`` is what the message names.

    Raises:
        UserError: No list has as many members as the transformer has layers.
    """
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == backbone.config.num_hidden_layers:
            return name, module
    raise UserError(f"{option}: cannot find the layers of a {type(backbone).__name__}")
