"""The last layer for the first token alone: all that most cross-encoders' heads look at.

In the last layer the other tokens matter as keys and values only; their queries, attention output and feed-forward
block, three quarters of the layer or more, are work for nothing. Leaving it out saves a seventh of a six-layer model
and changes no score. Knows the layers of BERT's family, MPNet and ModernBERT; must not know pairs or scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from retrieval_distill.hardware import varlen
from retrieval_distill.hardware.varlen import Packed

TOLERANCE = 1e-4
"""How far what is read may move in float32, in units of its size (at least 1), before the whole layer is put back."""

Read = Callable[[Any], Tensor]
"""What a model's output is read for: the logits of a classifier, the first token of an encoder."""


def first_token(output: Any) -> Tensor:
    """The first token of an encoder's output, [pairs, size]."""
    return output.last_hidden_state[:, 0]


def logits(output: Any) -> Tensor:
    """A classifier's logits, [pairs, labels]."""
    return output.logits


@torch.no_grad()
def shorten(model: Any, read: Read = logits) -> bool:
    """Let a model's last layer compute the first token alone, where that leaves what is read alone.

    Args:
        model: A transformer in float32, in evaluation mode; changed in place.
        read: What its output is read for.

    Returns:
        Whether it was: not if its layers are of another kind, or other tokens are read too.
    """
    if (found := last_layer(model)) is None:
        return False
    last, compute = found
    asked = probe(model)
    try:
        expected = read(model(**asked))
        vars(last)["forward"] = MethodType(compute, last)
        same = agrees(read(model(**asked)), expected)
    except Exception:  # a head that wants all tokens, or a layer whose parts work in another way
        same = False
    if not same:
        vars(last).pop("forward", None)
    elif compute is _modernbert:
        _part_query(last.attn)
    return same


def agrees(found: Tensor, expected: Tensor) -> bool:
    """Whether what is read stays the same."""
    return bool(((found - expected).abs() <= TOLERANCE * expected.abs().clamp(min=1)).all())


def _bert(
    layer: Any,
    hidden: Tensor,
    attention_mask: Tensor | None = None,
    *_: Any,
    packed: Packed | None = None,
    **__: Any,
) -> Tensor:
    """The layer's output for the first token: [pairs, tokens, size] -> [pairs, 1, size].

    Of pairs without padding, ``packed``: [1, tokens of all, size] -> [1, pairs, size].
    """
    attention, first = layer.attention.self, _first(hidden, packed)
    states = first, hidden, hidden
    parts = _heads((attention.query, attention.key, attention.value), states, attention.num_attention_heads)
    first = layer.attention.output(_attend(parts, attention_mask, packed), first)
    return layer.output(layer.intermediate(first), first)


def mpnet(
    layer: Any, hidden: Tensor, attention_mask: Tensor | None, position_bias: Tensor, *_: Any, **__: Any
) -> tuple[Tensor]:
    """As :func:`_bert`, but for padding; a bias tells the distance of two tokens."""
    attention, first = layer.attention.attn, hidden[:, :1]
    states = first, hidden, hidden
    parts = _heads((attention.q, attention.k, attention.v), states, attention.num_attention_heads)
    bias = position_bias if attention_mask is None else position_bias + attention_mask
    first = layer.attention.LayerNorm(attention.o(_attend(parts, bias)) + first)
    return (layer.output(layer.intermediate(first), first),)


def _modernbert(
    layer: Any,
    hidden: Tensor,
    attention_mask: Tensor | None = None,
    position_embeddings: tuple[Tensor, Tensor] | None = None,
    packed: Packed | None = None,
    **_: Any,
) -> Tensor:
    """As :func:`_bert`; norms come first, and positions turn queries and keys: the first token's, 0, turns nothing."""
    assert position_embeddings is not None
    attn, first, states = layer.attn, _first(hidden, packed), layer.attn_norm(hidden)
    if hasattr(attn, "query"):
        parts = attn.query(_first(states, packed)), *attn.keys_values(states).chunk(2, dim=-1)
    else:
        whole = attn.Wqkv(states).chunk(3, dim=-1)
        parts = _first(whole[0], packed), *whole[1:]
    query, key, value = (part.unflatten(-1, (-1, attn.head_dim)).transpose(1, 2) for part in parts)
    cos, sin = position_embeddings
    left, right = key.chunk(2, dim=-1)
    key = (key * cos + torch.cat([-right, left], dim=-1) * sin).to(key.dtype)
    first = first + attn.Wo(_attend([query, key, value], attention_mask, packed))
    return first + layer.mlp(layer.mlp_norm(first))


def _part_query(attn: Any) -> None:
    """Give ModernBERT's attention a linear layer for queries and one for the rest, instead of one for all, in place."""
    whole: nn.Linear = attn.Wqkv
    size = whole.in_features
    for name, rows in (("query", slice(size)), ("keys_values", slice(size, None))):
        part = nn.Linear(size, len(whole.weight[rows]), whole.bias is not None, device="meta")
        part.weight = nn.Parameter(whole.weight[rows].detach().clone())
        if whole.bias is not None:
            part.bias = nn.Parameter(whole.bias[rows].detach().clone())
        setattr(attn, name, part)
    del attn.Wqkv


Layer = Callable[..., Any]

_KINDS: dict[tuple[str, ...], Layer] = {
    ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output", "intermediate",
     "output"): _bert,
    ("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o", "attention.LayerNorm",
     "intermediate", "output"): mpnet,
    ("attn_norm", "attn.Wo", "mlp_norm", "mlp"): _modernbert,
}  # fmt: skip
"""What a layer must consist of, and how it computes the first token: BERT, RoBERTa, XLM-RoBERTa, ELECTRA and their kin;
MPNet; ModernBERT."""


def last_layer(model: nn.Module) -> tuple[Any, Layer] | None:
    """The last layer of a model's one stack of layers of a known kind, and how it computes the first token."""
    stacks = [found for module in model.modules() for found in _stacks(module)]
    return stacks[0] if len(stacks) == 1 else None


def _stacks(module: nn.Module) -> list[tuple[Any, Layer]]:
    """The last layer of a module's list of layers, and how it computes the first token; empty without such a list."""
    layers = getattr(module, "layer", getattr(module, "layers", None))
    if not isinstance(layers, nn.ModuleList) or not len(layers):
        return []
    return [(layers[-1], compute) for parts, compute in _KINDS.items() if all(_has(layers[-1], part) for part in parts)]


def _has(layer: nn.Module, part: str) -> bool:
    try:
        layer.get_submodule(part)
    except AttributeError:
        return False
    return True


def _heads(parts: tuple[Any, ...], states: tuple[Tensor, ...], heads: int) -> Iterator[Tensor]:
    """Each part of its states: [pairs, tokens, size] -> [pairs, heads, tokens, size of a head]."""
    for part, of in zip(parts, states, strict=True):
        yield part(of).unflatten(-1, (heads, -1)).transpose(1, 2)


def _first(states: Tensor, packed: Packed | None) -> Tensor:
    """The first tokens' states: [pairs, 1, size], without padding [1, pairs, size]."""
    return states[:, :1] if packed is None else states[:, packed.starts[:-1]]


def _attend(parts: Iterable[Tensor], mask: Tensor | None, packed: Packed | None = None) -> Tensor:
    """The first token's attention, shaped as :func:`_first`, from its query and all keys and values."""
    query, key, value = parts
    if packed is not None:
        return varlen.attention(query, key, value, packed).flatten(2)
    mask = None if mask is None else mask[:, :, :1]
    context = nn.functional.scaled_dot_product_attention(query, key, value, mask)
    return context.transpose(1, 2).flatten(2)


def probe(model: Any) -> dict[str, Tensor]:
    """Two sequences of tokens, one of them padded."""
    ids = torch.arange(5, 5 + 2 * 12, device=model.device).reshape(2, 12) % model.config.vocab_size
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}
