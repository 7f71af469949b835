"""Which layers of an encoder a student keeps, and the encoder made of them alone.

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
    """The ``keep`` layers next to the input."""
    return tuple(range(keep))


def last(count: int, keep: int) -> tuple[int, ...]:
    """The ``keep`` layers next to the output."""
    return tuple(range(count - keep, count))


def spaced(count: int, keep: int) -> tuple[int, ...]:
    """As evenly as possible, the first and the last included: the i-th is floor(i (count - 1) / (keep - 1) + 1/2).

    6 of 12: 0, 2, 4, 7, 9, 11. A single one is the first.
    """
    return tuple(int(place) for place in np.floor(np.linspace(0, count - 1, keep) + 0.5))


RULES: dict[str, Callable[[int, int], tuple[int, ...]]] = {"first": first, "last": last, "spaced": spaced}


def count(model: SentenceTransformer) -> int:
    """Number of layers."""
    return len(stack(model)[1])


def chosen(model: SentenceTransformer, layers: str | Sequence[int]) -> tuple[int, ...]:
    """The layers that a recipe names.

    Args:
        model: Where they are to be found.
        layers: Their numbers, from 0, or ``RULE:COUNT`` with a rule of :data:`RULES`.

    Raises:
        UserError: There are not so many layers.
    """
    if not isinstance(layers, str):
        return tuple(layers)
    rule, number = layers.split(":")
    if int(number) > count(model):
        raise UserError(f"layers={layers}: this model has {count(model)} layers")
    return RULES[rule](count(model), int(number))


def fits(model: SentenceTransformer, layers: Sequence[int]) -> bool:
    """Whether each of these layers has the weights that its new place asks for.

    In most architectures all layers are alike. ModernBERT's first one has no norm before its attention, T5's first
    one holds the position bias of all.
    """
    weights = [layer.state_dict().keys() for layer in stack(model)[1]]
    return all(weights[layer] == weights[place] for place, layer in enumerate(layers))


def keep(model: SentenceTransformer, layers: Sequence[int]) -> None:
    """Drop all transformer layers but these, in place (the paper's "student from teacher's layers").

    The slimmer encoder is built from its own configuration and given the old weights, so that what depends on a
    layer's place (its kind of attention, its number in a cache) is as it will be when the saved student is loaded.

    Args:
        model: Any encoder whose layers stand in one list (BERT, RoBERTa, DistilBERT, MPNet, ModernBERT, GPT-2, ...).
        layers: Layers to keep, counted from 0, in the order they shall have.

    Source: Sanh et al., "DistilBERT, a distilled version of BERT", 2019 (initialisation from every other layer).

    Raises:
        UserError: A layer does not exist or cannot stand where it is put, none is kept, or the model's layers cannot
            be found.
    """
    backbone: Any = model[0].auto_model
    name, whole = stack(model)
    if not layers or any(not 0 <= layer < len(whole) for layer in layers):
        raise UserError(f"layers: {list(layers)} - this model has layers 0 to {len(whole) - 1}")
    if not fits(model, layers):
        raise UserError(
            f"layers: {list(layers)} - the first layer of a {type(backbone).__name__} is made unlike the "
            "others: keep layer 0, and in the first place"
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
    backbone: Any = model[0].auto_model
    for name, module in backbone.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == backbone.config.num_hidden_layers:
            return name, module
    raise UserError(f"layers: cannot find the layers of a {type(backbone).__name__}")
