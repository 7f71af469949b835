"""Attention without padding: by a mask it is attention, and PyTorch's kernel is asked for the same."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from torch.nn.attention import varlen as kernels

from retrieval_distill.hardware import varlen

LENGTHS = [7, 1, 4, 12]


def padding(lengths=LENGTHS) -> torch.Tensor:
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


def states(tokens: int) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, tokens, 8, generator=rng) for _ in range(3)]


def one(query, key, value, scale, left, right):
    """Attention of a sequence in float64, of [tokens, heads, size], as FlashAttention says it: the last query stands at the last key."""
    products = torch.einsum("qhd,khd->hqk", query.double(), key.double()) * scale
    at = torch.arange(len(query))[:, None] + len(key) - len(query)
    away = torch.arange(len(key)) - at
    for hidden in (away < -left if left >= 0 else None, away > right if right >= 0 else None):
        if hidden is not None:
            products = products.masked_fill(hidden, -torch.inf)
    return torch.einsum("hqk,khd->qhd", products.softmax(-1), value.double()).to(query.dtype)


def by_hand(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, scale=None, window_size=(-1, -1)):
    """What PyTorch documents of ``varlen_attn``."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert all(part.stride(-1) == 1 for part in (query, key, value))
    lengths_q, lengths_k = cu_seq_q.diff().tolist(), cu_seq_k.diff().tolist()
    assert max(lengths_q) <= max_q and max(lengths_k) <= max_k
    sequences = zip(query.split(lengths_q), key.split(lengths_k), value.split(lengths_k), strict=True)
    scale = scale or query.shape[-1] ** -0.5
    return torch.cat([one(*sequence, scale, *window_size) for sequence in sequences])


@pytest.fixture
def kernel(monkeypatch):
    """The kernel's stand-in, which takes what the kernel takes."""
    asked = mock.create_autospec(kernels.varlen_attn, side_effect=by_hand)
    monkeypatch.setattr(kernels, "varlen_attn", asked)
    monkeypatch.setattr(varlen, "_has_kernel", lambda query: True)
    return asked


def test_packing_and_padding_are_inverse():
    mask = padding()
    packed = varlen.Packed.of(mask)
    numbers = torch.arange(mask.numel()).reshape(mask.shape) + 1
    row = packed.pack(numbers)
    assert row.shape == (1, sum(LENGTHS)) and packed.starts.tolist() == [0, 7, 8, 12, 24]
    assert torch.equal(packed.pad(row[..., None].float())[..., 0], (numbers * mask).float())
    assert packed.pad(row[:, packed.starts[:-1], None]).flatten().tolist() == numbers[:, 0].tolist()


@pytest.mark.parametrize("by", ["mask", "kernel"])
@pytest.mark.parametrize("reach", [None, 0, 3])
def test_a_sequence_sees_itself_alone(request, by, reach):
    if by == "kernel":
        request.getfixturevalue("kernel")
    packed, parts = varlen.Packed.of(padding()), states(sum(LENGTHS))
    found = varlen.attention(*parts, packed, reach, 0.3)
    window = -1 if reach is None else reach
    sequences = zip(*(part[0].transpose(0, 1).split(LENGTHS) for part in parts), strict=True)
    expected = torch.cat([one(*sequence, 0.3, window, window) for sequence in sequences])
    torch.testing.assert_close(found[0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("by", ["mask", "kernel"])
def test_first_tokens_alone(request, by):
    packed, (query, key, value) = varlen.Packed.of(padding()), states(sum(LENGTHS))
    whole = varlen.attention(query, key, value, packed)
    if by == "kernel":
        asked = request.getfixturevalue("kernel")
    found = varlen.attention(query[:, :, packed.starts[:-1]], key, value, packed)
    torch.testing.assert_close(found, whole[:, packed.starts[:-1]], atol=1e-6, rtol=1e-5)
    assert by == "mask" or asked.call_count == 1


@pytest.mark.parametrize("device, dtype", [("cpu", torch.bfloat16), ("cpu", torch.float32), ("cuda:0", torch.float32)])
def test_where_there_is_no_kernel(device, dtype):
    assert not varlen.is_available(device, dtype, 32)
