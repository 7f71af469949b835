"""Attention over sequences of different lengths without padding, where a GPU has a kernel for it.

Sequences stand one after another in a single row. Knows tensors and transformers' attention registry; must not know
models or texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

NAME = "packed"
"""The name of :func:`attend` in transformers' registry."""


@dataclass(frozen=True, eq=False)
class Packed:
    """Where the sequences of a padded batch stand without their padding."""

    places: Tensor
    """Each token's place in the padded batch, row by row: int64 [tokens]."""
    starts: Tensor
    """Each sequence's first token, and the number of all tokens: int32 [sequences + 1]."""
    longest: int
    """Tokens of the longest sequence."""

    @classmethod
    def of(cls, mask: Tensor) -> Packed:
        """Read them off an attention mask [sequences, longest]. A GPU is waited for: how many tokens are there?"""
        starts = nn.functional.pad(mask.sum(dim=1).cumsum(dim=0), (1, 0)).int()
        return cls(mask.flatten().nonzero()[:, 0], starts, mask.shape[1])

    def pack(self, padded: Tensor) -> Tensor:
        """[sequences, longest] -> [1, tokens]."""
        return padded.flatten()[self.places][None]

    def pad(self, packed: Tensor) -> Tensor:
        """[1, tokens, size] -> [sequences, longest, size], or [1, sequences, size] -> [sequences, 1, size]."""
        sequences = len(self.starts) - 1
        if packed.shape[1] == sequences:
            return packed.transpose(0, 1)
        padded = packed.new_zeros(sequences * self.longest, packed.shape[2])
        padded[self.places] = packed[0]
        return padded.unflatten(0, (sequences, self.longest))


@lru_cache
def is_available(device: str, dtype: torch.dtype, size: int) -> bool:
    """Whether a device computes this attention by a kernel, and rightly, as a small example shows.

    PyTorch's kernel, FlashAttention 2, is for GPUs of compute capability 8.0 and up, in float16 and bfloat16.

    Args:
        device: Such as ``"cuda:0"``.
        dtype: What a model computes in.
        size: Of a head.
    """
    if torch.device(device).type != "cuda" or dtype not in _KERNEL_DTYPES:
        return False
    packed = Packed.of(torch.arange(16, device=device) < torch.tensor([[16], [1], [9]], device=device))
    drawn = torch.randn(3, 1, 2, len(packed.places), size, generator=torch.Generator().manual_seed(0))
    parts, first = drawn.to(device, dtype).unbind(), packed.starts[:-1]
    query, key, value = (part.float() for part in parts)
    try:
        close = [
            _close(attention(*parts, packed), attention(query, key, value, packed)),
            _close(attention(*parts, packed, reach=2), attention(query, key, value, packed, reach=2)),
            _close(
                attention(parts[0][:, :, first], *parts[1:], packed), attention(query[:, :, first], key, value, packed)
            ),
        ]
    except Exception:  # an older GPU or PyTorch, another build, a size that the kernel does not have
        return False
    return all(close)


def _close(found: Tensor, exact: Tensor) -> bool:
    return bool(((found - exact).abs() < 0.05).all())


_KERNEL_DTYPES = (torch.float16, torch.bfloat16)


def attention(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, reach: int | None = None, scaling: float | None = None
) -> Tensor:
    """The attention of every sequence to itself: three times [1, heads, tokens, size] -> [1, tokens, heads, size].

    Args:
        query: Of all tokens, or of the first of each sequence: [1, heads, sequences, size].
        key: Of all tokens.
        value: Of all tokens.
        packed: Where the sequences stand.
        reach: How far a token sees to either side, where queries are those of all tokens; ``None``: as far as its
            sequence goes.
        scaling: What products are multiplied by; ``None``: 1 / sqrt(size).
    """
    if not _has_kernel(query):
        return _masked(query, key, value, packed, reach, scaling)
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = packed.starts, packed.longest
    own = starts, longest
    if query.shape[2] != key.shape[2]:
        own = torch.arange(len(starts), dtype=torch.int32, device=starts.device), 1
    window = (-1, -1) if reach is None else (reach, reach)
    parts = (part[0].transpose(0, 1) for part in (query, key, value))
    context: Any = varlen_attn(*parts, own[0], starts, own[1], longest, scale=scaling, window_size=window)
    return context[None]


def _has_kernel(query: Tensor) -> bool:
    return query.is_cuda and query.dtype in _KERNEL_DTYPES


def _masked(
    query: Tensor, key: Tensor, value: Tensor, packed: Packed, reach: int | None, scaling: float | None
) -> Tensor:
    """:func:`attention` without the kernel, by a mask of all tokens by all tokens: for checks and tests."""
    places = torch.arange(key.shape[2], dtype=torch.int32, device=key.device)
    own = places if query.shape[2] == len(places) else packed.starts[:-1]
    sequence = torch.bucketize(places, packed.starts[1:], right=True)
    mask = sequence[own][:, None] == sequence
    if reach is not None:
        mask &= (own[:, None] - places).abs() <= reach
    return nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling).transpose(1, 2)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    packed: Packed,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """:func:`attention` in transformers' interface, where a window is one more than a token sees to either side."""
    reach = None if sliding_window is None else sliding_window - 1
    return attention(query, key, value, packed, reach, scaling), None


def _no_mask(*_: Any, **__: Any) -> None:
    """In place of a mask of all tokens by all tokens."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
