"""Attention over sequences of different lengths without padding: by a GPU's kernel, or for each length by itself.

Sequences stand one after another in a single row. Knows tensors and transformers' attention registry; must not know
models or texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
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

    @cached_property
    def lengths(self) -> list[tuple[int, int]]:
        """How many sequences in succession have how many tokens; sorted by length, a batch has the fewest entries."""
        return [(len(list(alike)), length) for length, alike in groupby(self.starts.diff().tolist())]

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
    query, key, value = drawn.to(device, dtype).unbind()
    asked: tuple[tuple[Tensor, int | None], ...] = (query, None), (query, 2), (query[:, :, packed.starts[:-1]], None)
    try:
        return all(
            bool(((attention(own, key, value, packed, reach) - exact).abs() < 0.05).all())
            for own, reach in asked
            for exact in [attention(own.float(), key.float(), value.float(), packed, reach)]
        )
    except Exception:  # an older GPU or PyTorch, another build, a size that the kernel does not have
        return False


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

        def alone(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
            found = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=scaling)
            return found.transpose(1, 2)

        return by_length(alone, query, key, value, packed, reach)
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = packed.starts, packed.longest
    own = starts, longest
    if query.shape[2] != key.shape[2]:
        own = torch.arange(len(starts), dtype=torch.int32, device=starts.device), 1
    window = (-1, -1) if reach is None else (reach, reach)
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    context: Any = varlen_attn(query, key, value, own[0], starts, own[1], longest, scale=scaling, window_size=window)
    return context[None]


def _has_kernel(query: Tensor) -> bool:
    return query.is_cuda and query.dtype in _KERNEL_DTYPES


Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""Query, key and value of sequences of one length, [sequences, heads, tokens, size], and which tokens each token sees,
bool [tokens, tokens] or ``None`` for all -> [sequences, tokens, heads, size]."""


def by_length(
    attend: Attend, query: Tensor, key: Tensor, value: Tensor, packed: Packed, reach: int | None = None
) -> Tensor:
    """:func:`attention` by a function for sequences of one length, asked for each run of these.

    On a CPU the result for a sequence has the same bits whichever others are in the row.
    """
    parts, firsts = [], query.shape[2] != key.shape[2]
    asked = start = 0
    for count, length in packed.lengths:
        own = 1 if firsts else length
        sizes = (asked, count, own), (start, count, length), (start, count, length)
        q, k, v = (
            part[0, :, at : at + rows * tokens].unflatten(1, (rows, tokens)).transpose(0, 1)
            for part, (at, rows, tokens) in zip((query, key, value), sizes, strict=True)
        )
        mask = None
        if reach is not None and reach < length - 1:
            places = torch.arange(length, device=key.device)
            mask = (places[:own, None] - places).abs() <= reach
        parts.append(attend(q, k, v, mask).flatten(0, 1))
        asked, start = asked + count * own, start + count * length
    return torch.cat(parts)[None]


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
    """:func:`attention` in transformers' interface."""
    return attention(query, key, value, packed, reach_of(sliding_window), scaling), None


def reach_of(sliding_window: int | None) -> int | None:
    """How far a token sees to either side: in transformers, a window is one more."""
    return None if sliding_window is None else sliding_window - 1


def _no_mask(*_: Any, **__: Any) -> None:
    """In place of a mask of all tokens by all tokens."""


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, _no_mask)
