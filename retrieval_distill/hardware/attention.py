"""Attention on a CPU: of texts of several lengths in one row, and in bfloat16 faster than PyTorch's fused kernel.

The kernel works in small blocks: that saves memory, but with the short texts of retrieval two batched matrix products,
which oneDNN computes natively, take a third of the time. Its backward pass in bfloat16 takes three times as long as the
one in float32, and is less exact (``scripts/bench_attention.py``). Knows tensors and transformers' attention registry;
must not know models or texts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from retrieval_distill.hardware import varlen
from retrieval_distill.hardware.varlen import Packed

NAME = "sdpa-products"

MAX_TOKENS = 512
"""Longest text in tokens, since a batch's scores take heads x tokens x tokens x texts x 2 bytes."""

MAX_LEARNT_TOKENS = 256
"""Longest text in tokens whose attention is learnt in float32; beyond, the kernel's blocks are as fast in bfloat16."""


def speed_up(model: nn.Module) -> None:
    """Switch transformers from PyTorch's fused attention to this one, in place."""
    for part in model.modules():
        if isinstance(part, PreTrainedModel) and _is_fused(part):
            part.set_attn_implementation(NAME)


def _is_fused(transformer: PreTrainedModel) -> bool:
    return transformer.config._attn_implementation == "sdpa"


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    packed: Packed | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attention in transformers' interface: three times [texts, heads, tokens, size] -> [texts, tokens, heads, size].

    With ``packed``, several texts stand in one row. The products handle padding masks only; everything else (causal or
    local attention, dropout, gradients, long texts, heads that share keys) is left to the fused kernel, with gradients
    of short texts in float32.
    """
    if packed is not None:
        if getattr(module, "is_causal", True):
            raise NotImplementedError("texts in one row, of which no token sees later ones")
        reach = varlen.reach_of(options.get("sliding_window"))

        def of_one_length(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
            seen = None if mask is None else mask[None, None]
            return attend(module, query, key, value, seen, **{**options, "is_causal": False})[0]

        return varlen.by_length(of_one_length, query, key, value, packed, reach), None
    texts, heads, tokens, size = query.shape
    plain = query.dtype == torch.bfloat16 and query.shape == key.shape and tokens <= MAX_TOKENS
    special = options.get("dropout") or options.get("position_bias") is not None or torch.is_grad_enabled()
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if torch.is_grad_enabled() and query.dtype == torch.bfloat16 and tokens <= MAX_LEARNT_TOKENS:
        return _in_float32(module, query, key, value, attention_mask, options), None
    if not plain or special or not _is_padding(attention_mask, causal):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scaling = options.get("scaling") or size**-0.5
    q, k, v = (states.reshape(texts * heads, tokens, size) for states in (query, key, value))
    scores = torch.baddbmm(_mask_bias(attention_mask, query), q, k.transpose(1, 2), alpha=scaling)
    return torch.bmm(scores.softmax(-1), v).view(query.shape).transpose(1, 2).contiguous(), None


def _in_float32(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> Tensor:
    """The fused kernel in float32, its result in the dtype of the query."""
    query32, key32, value32 = (states.float() for states in (query, key, value))
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.float()
    if (bias := options.get("position_bias")) is not None:
        options = {**options, "position_bias": bias.float()}
    found, _ = sdpa_attention_forward(module, query32, key32, value32, mask, **options)
    return found.to(query.dtype)


def _is_padding(mask: Tensor | None, causal: bool) -> bool:
    """Whether a mask hides the same tokens from all tokens of a text; without one, a causal layer makes its own."""
    if mask is None:
        return not causal
    return mask.dtype == torch.bool and mask.shape[1] == 1 and bool((mask == mask[:, :, :1]).all())


def _mask_bias(mask: Tensor | None, query: Tensor) -> Tensor:
    """The mask as an additive bias that broadcasts to [texts x heads, tokens, tokens]."""
    if mask is None:
        return query.new_zeros(1)
    hidden = ~mask[:, 0, :1].repeat_interleave(query.shape[1], dim=0)
    return query.new_zeros(hidden.shape).masked_fill_(hidden, torch.finfo(query.dtype).min)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
