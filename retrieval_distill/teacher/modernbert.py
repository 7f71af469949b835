"""ModernBERT's layers as a CPU computes them fast: the same numbers, with less work.

Two of three layers look only ``window`` tokens to either side. transformers masks the rest of all pairs of tokens after
computing them; here a block of tokens meets its neighbouring blocks alone. Positions are turned in place, and masks are
built once for a batch. Knows ModernBERT's modules; must not know pairs or scores.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from retrieval_distill.hardware import attention, devices

LOCAL = "sliding_attention"
"""transformers' name of the layers that look around themselves only."""


def speed_up(model: nn.Module) -> None:
    """Let every ModernBERT within a model compute this way where no gradients are needed, in place."""
    from transformers import ModernBertModel

    for part in [part for part in model.modules() if isinstance(part, ModernBertModel)]:
        vars(part)["forward"] = MethodType(_forward, part)
        for layer in part.layers[:-1] if part.config.hidden_activation == "gelu" else []:
            _part_gate(layer.mlp)


def _part_gate(mlp: Any) -> None:
    """Give a feed-forward block its value and gate as layers of their own too, with the same weights, in place."""
    whole: nn.Linear = mlp.Wi
    for name, rows in zip(("value", "gate"), torch.arange(whole.out_features).chunk(2), strict=True):
        part = nn.Linear(whole.in_features, len(rows), whole.bias is not None, device="meta")
        for kind, weights in whole.named_parameters():
            own = weights.detach()[rows[0] : rows[-1] + 1]
            setattr(part, kind, nn.Parameter(own, requires_grad=weights.requires_grad))
        setattr(mlp, name, part)


@dataclass(frozen=True, eq=False)
class _Batch:
    """What all layers of one kind share."""

    cos: Tensor
    """[tokens, 1, 1, size / 2]."""
    sin: Tensor
    mask: Tensor
    """Which keys a query sees, for attention over whole texts: bool, broadcasts to [texts, 1, tokens, tokens]."""
    windows: _Windows | None
    """Of local layers, where texts are long enough for them."""


def _forward(model: Any, input_ids: Tensor | None = None, attention_mask: Tensor | None = None, **other: Any) -> Any:
    """ModernBERT's forward pass over texts that are padded on the right."""
    from transformers.modeling_outputs import BaseModelOutput

    unusual = other.get("position_ids") is not None or other.get("inputs_embeds") is not None
    recorded = torch.jit.is_tracing() or torch.compiler.is_exporting()  # a graph has to hold for other texts too
    if torch.is_grad_enabled() or recorded or unusual or input_ids is None or other.get("output_hidden_states"):
        return type(model).forward(model, input_ids=input_ids, attention_mask=attention_mask, **other)
    kept = torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
    ids, which = torch.unique(input_ids, return_inverse=True)
    words = model.embeddings(input_ids=ids)  # a token's first queries, keys and values are the same wherever it stands
    shared = {kind: _shared(model, kind, kept, words.dtype) for kind in set(model.config.layer_types)}
    hidden = words[which]
    for number, layer in enumerate(model.layers[:-1]):
        qkv = layer.attn.Wqkv(layer.attn_norm(hidden)) if number else layer.attn.Wqkv(layer.attn_norm(words))[which]
        hidden = _layer(layer, hidden, qkv, shared[layer.attention_type])
    last = model.layers[-1]  # another part may have made it compute the first token alone
    turns = model.rotary_emb(hidden, torch.arange(hidden.shape[1])[None], last.attention_type)
    mask = shared[last.attention_type].mask.expand(-1, 1, hidden.shape[1], -1)
    hidden = last(hidden, attention_mask=mask, position_embeddings=turns)
    return BaseModelOutput(last_hidden_state=model.final_norm(hidden))


def _shared(model: Any, kind: str, kept: Tensor, dtype: torch.dtype) -> _Batch:
    tokens = kept.shape[1]
    places = torch.arange(tokens)
    turns = model.rotary_emb(torch.empty(0, dtype=torch.float32), places[None], kind)
    cos, sin = (part[0, :, None, None].chunk(2, dim=-1)[0] for part in turns)
    mask, windows = kept[:, None, None], None
    if kind == LOCAL:
        reach = model.config.sliding_window
        mask = mask & ((places[:, None] - places).abs() <= reach)
        windows = _Windows.of(kept, reach, dtype) if tokens > 3 * reach else None
    return _Batch(cos, sin, mask, windows)


def _layer(layer: Any, hidden: Tensor, qkv: Tensor, batch: _Batch) -> Tensor:
    """One layer, after its queries, keys and values [texts, tokens, 3 x size]: [texts, tokens, size] -> the same."""
    attn, windows = layer.attn, batch.windows
    qkv = qkv.unflatten(-1, (3, -1, attn.head_dim))
    if windows is None:
        _turn(qkv[:, :, :2], batch)
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        context = attention.attend(attn, query, key, value, batch.mask, scaling=attn.head_dim**-0.5)[0].flatten(2)
    else:
        flat = windows.spread(qkv)
        _turn(windows.texts(flat)[:, :, :2], batch)
        context = windows.attend(flat)
    hidden = attn.Wo(context).add_(hidden)
    states = layer.mlp_norm(hidden)
    if hasattr(layer.mlp, "gate"):
        return layer.mlp.Wo(devices.gated_gelu(layer.mlp.value, layer.mlp.gate, states)).add_(hidden)
    return layer.mlp(states).add_(hidden)


def _turn(states: Tensor, batch: _Batch) -> None:
    """Turn queries and keys [texts, tokens, 2, heads, size] by their positions, in place."""
    exact = states.float()
    first, second = exact.chunk(2, dim=-1)
    before = first.clone()
    first.mul_(batch.cos).addcmul_(second, batch.sin, value=-1)
    second.mul_(batch.cos).addcmul_(before, batch.sin)
    if exact is not states:
        states.copy_(exact)


@dataclass(frozen=True, eq=False)
class _Windows:
    """All texts of a batch in one row, cut into blocks: each sees itself and ``reach`` tokens to its left and right."""

    shape: tuple[int, int]
    """Texts, and tokens of each."""
    reach: int
    block: int
    count: int
    bias: Tensor
    """0 where a token sees another, else minus infinity: [blocks, 1, block, block + 2 x reach]."""

    @classmethod
    def of(cls, kept: Tensor, reach: int, dtype: torch.dtype) -> _Windows:
        texts, tokens = kept.shape
        block = reach if dtype == torch.bfloat16 else max(1, reach // 2)  # the faster for :func:`_products`, _fused
        count, window = -(-kept.numel() // block), block + 2 * reach
        row = kept.new_full((count * block + 2 * reach,), -1, dtype=torch.int64)  # the text of each token
        inside = slice(reach, reach + kept.numel())
        row[inside] = torch.arange(texts).repeat_interleave(tokens)
        here = row[reach : reach + count * block].unflatten(0, (count, block))
        row[inside].masked_fill_(~kept.flatten(), -2)
        distance = torch.arange(window) - reach - torch.arange(block)[:, None]
        seen = (here[:, :, None] == row.unfold(0, window, block)[:, None]) & (distance.abs() <= reach)
        seen |= distance == 0  # so that a padding token sees something
        bias = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
        return cls((texts, tokens), reach, block, count, bias[:, None])

    def spread(self, qkv: Tensor) -> Tensor:
        """[texts, tokens, 3, heads, size] -> [tokens of all texts, with zeros around them, 3, heads, size]."""
        flat = qkv.new_zeros(self.count * self.block + 2 * self.reach, *qkv.shape[2:])
        self.texts(flat).copy_(qkv)
        return flat

    def texts(self, flat: Tensor) -> Tensor:
        """The texts' part of :meth:`spread`'s result, as they were: a view."""
        texts, tokens = self.shape
        return flat[self.reach : self.reach + texts * tokens].unflatten(0, self.shape)

    def attend(self, flat: Tensor) -> Tensor:
        """Attention within the windows: [texts, tokens, heads x size]."""
        texts, tokens = self.shape
        query = flat[self.reach : len(flat) - self.reach, 0].unflatten(0, (self.count, self.block))
        window = self.block + 2 * self.reach
        key, value = (flat[:, part].unfold(0, window, self.block).movedim(-1, 1) for part in (1, 2))
        query, key, value = (part.transpose(1, 2) for part in (query, key, value))
        act = _products if flat.dtype == torch.bfloat16 else _fused
        return act(query, key, value, self.bias).flatten(2).flatten(0, 1)[: texts * tokens].unflatten(0, self.shape)


def _fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """[windows, heads, tokens, size] -> [windows, tokens, heads, size]."""
    return nn.functional.scaled_dot_product_attention(query, key, value, bias).transpose(1, 2)


def _products(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """The same in bfloat16, which processors multiply natively in matrix products, but not in the fused kernel."""
    windows, heads, tokens, size = query.shape
    context = query.new_empty(windows, tokens, heads, size)
    for head in range(heads):
        scores = torch.baddbmm(bias[:, 0], query[:, head], key[:, head].transpose(1, 2), alpha=size**-0.5)
        context[:, :, head] = torch.bmm(scores.softmax(-1), value[:, head])
    return context
