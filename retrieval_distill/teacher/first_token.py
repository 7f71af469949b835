"""The last layer for the first token alone: all that a cross-encoder's classifier looks at.

In the last layer the other tokens matter as keys and values only; their queries, attention output and feed-forward
block, five sixths of the layer, are work for nothing. Leaving it out saves a seventh of a six-layer model and changes
no score. Knows layers as BERT's family has them; must not know pairs or scores.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output",
    "intermediate",
    "output",
)
"""What a layer must consist of (BERT, RoBERTa, XLM-RoBERTa, ELECTRA and their kin)."""

TOLERANCE = 1e-4
"""How far float32 logits may move, in units of their size (at least 1), before the whole layer is put back."""


@torch.inference_mode()
def shorten(model: Any) -> bool:
    """Let a classification model's last layer compute the first token alone, where that leaves its logits alone.

    Args:
        model: A sequence-classification model in float32, in evaluation mode; changed in place.

    Returns:
        Whether it was: not if its layers are of another kind, or its classifier looks at other tokens too.
    """
    stacks: list[Any] = [module.layer for module in model.modules() if _is_stack(getattr(module, "layer", None))]
    if len(stacks) != 1:
        return False
    last = stacks[0][-1]
    probe = _probe(model)
    try:
        expected = model(**probe).logits
        last.forward = MethodType(_first_token, last)
        found = model(**probe).logits
        same = bool(((found - expected).abs() <= TOLERANCE * expected.abs().clamp(min=1)).all())
    except Exception:  # a classifier that wants all tokens, or a layer whose parts work in another way
        same = False
    if not same:
        vars(last).pop("forward", None)
    return same


def _first_token(layer: Any, hidden: Tensor, attention_mask: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """The layer's output for the first token: [pairs, tokens, size] -> [pairs, 1, size]."""
    attention, first = layer.attention.self, hidden[:, :1]
    query, key, value = (
        part(states).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        for part, states in ((attention.query, first), (attention.key, hidden), (attention.value, hidden))
    )
    mask = None if attention_mask is None else attention_mask[:, :, :1]
    context = nn.functional.scaled_dot_product_attention(query, key, value, mask)
    states = layer.attention.output(context.transpose(1, 2).flatten(2), first)
    return layer.output(layer.intermediate(states), states)


def _is_stack(layers: Any) -> bool:
    return isinstance(layers, nn.ModuleList) and len(layers) > 0 and all(_has(layers[-1], part) for part in PARTS)


def _has(layer: nn.Module, part: str) -> bool:
    try:
        layer.get_submodule(part)
    except AttributeError:
        return False
    return True


def _probe(model: Any) -> dict[str, Tensor]:
    """Two sequences of tokens, one of them padded."""
    ids = torch.arange(5, 5 + 2 * 12, device=model.device).reshape(2, 12) % model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}
