"""8-bit linear layers: the sums are those of integers, on every processor, and the step of a token is its own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from retrieval_distill.hardware import eight_bits

SUMS = """
import torch
from torch import nn
from retrieval_distill.hardware import eight_bits

layer = nn.Linear(384, 8, bias=False)
layer.weight.data.fill_(1.0)
print(eight_bits.Linear(layer)(torch.ones(40, 384)).unique().tolist())
"""


def layer_of(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(3, 24), (2, 5, 24), (1, 24), (700, 24)])
def test_it_is_the_product_of_rounded_numbers(shape):
    layer, given = layer_of(24, 10), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    found = eight_bits.Linear(layer)(given).numpy()
    rows, weight = given.reshape(-1, 24).double().numpy(), layer.weight.double().numpy()
    steps = [np.abs(part).max(axis=1, keepdims=True) / largest for part, largest in ((rows, 127), (weight, 63))]
    codes = [np.rint(part / step) for part, step in zip((rows, weight), steps, strict=True)]
    expected = codes[0] @ codes[1].T * steps[0] * steps[1].T + layer.bias.double().numpy()
    assert found.shape == (*shape[:-1], 10)
    np.testing.assert_allclose(found.reshape(-1, 10), expected, atol=2e-2)  # a code at a half may fall either way
    assert np.abs(found.reshape(-1, 10) - expected).mean() < 1e-5


@torch.inference_mode()
def test_a_token_with_a_large_activation_leaves_the_others_alone():
    layer = eight_bits.Linear(layer_of(24, 10))
    given = torch.randn(6, 24, generator=torch.Generator().manual_seed(1))
    with_outlier = torch.cat([given, 1000 * torch.ones(1, 24)])
    assert torch.equal(layer(with_outlier)[:6], layer(given))


@torch.inference_mode()
def test_zeros_and_other_dtypes():
    layer = layer_of(24, 10)
    eight = eight_bits.Linear(layer)
    assert torch.equal(eight(torch.zeros(2, 24)), layer.bias.expand(2, 10))
    assert torch.equal(eight_bits.Linear(layer_of(24, 10, bias=False))(torch.zeros(2, 24)), torch.zeros(2, 10))
    assert eight(torch.ones(2, 24, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("instructions", ["AVX2", "ALL"])
def test_the_largest_sums_do_not_overflow(instructions, monkeypatch):
    """Without VNNI, neighbouring products are added in 16 bits."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", instructions)
    (found,) = eval(subprocess.run([sys.executable, "-c", SUMS], capture_output=True, text=True, check=True).stdout)
    assert found == pytest.approx(384, rel=1e-6)
