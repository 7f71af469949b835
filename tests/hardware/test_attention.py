"""Attention as two products is PyTorch's own, and is only used for what it was made for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from retrieval_distill.hardware import attention
from retrieval_distill.student import encoder
from retrieval_distill.teacher import cross_encoder
from tests.conftest import WORDS

TEXTS = [" ".join(WORDS[i : i + 2 + i % 11]) for i in range(24)]


class Layer(torch.nn.Module):
    is_causal = False


def states(texts=5, heads=3, tokens=20, size=8, dtype=torch.bfloat16):
    rng = torch.Generator().manual_seed(0)
    shape = texts, tokens, heads, size
    return [torch.randn(shape, generator=rng).to(dtype).transpose(1, 2) for _ in range(3)]


def padding(lengths, tokens):
    keep = torch.arange(tokens)[None] < torch.tensor(lengths)[:, None]
    return keep[:, None, None].expand(-1, 1, tokens, -1)


@pytest.fixture
def products(monkeypatch):
    """How often the products were used."""
    used, real = [], torch.baddbmm
    monkeypatch.setattr(torch, "baddbmm", lambda *a, **k: used.append(1) or real(*a, **k))
    return used


@torch.inference_mode()
def test_it_is_attention(products):
    """Against float64; within the rounding of bfloat16, as PyTorch's fused kernel is."""
    query, key, value = states()
    for mask in (None, padding([20, 3, 20, 1, 11], 20)):
        exact, _ = sdpa_attention_forward(Layer(), query.double(), key.double(), value.double(), mask, scaling=0.4)
        found, _ = attention.attend(Layer(), query, key, value, mask, scaling=0.4)
        assert found.is_contiguous()
        assert (found.double() - exact).abs().max() < 0.02
    assert len(products) == 2


@torch.inference_mode()
@pytest.mark.parametrize("case", ["causal", "asked to be", "local", "long", "float32", "fewer keys"])
def test_what_is_left_to_the_fused_kernel(products, case):
    tokens = 600 if case == "long" else 20
    query, key, value = states(tokens=tokens, dtype=torch.float32 if case == "float32" else torch.bfloat16)
    mask, layer, options = padding([tokens, 3, tokens, 1, 11], tokens), Layer(), {"scaling": 0.4}
    if case == "causal":
        layer.is_causal, mask = True, None
    if case == "asked to be":
        options, mask = {**options, "is_causal": True}, None
    if case == "local":
        near = (torch.arange(20)[:, None] - torch.arange(20)[None]).abs() < 4
        mask = mask & near
    if case == "fewer keys":
        query, mask = query[:, :, :1], mask[:, :, :1]
    expected, _ = sdpa_attention_forward(layer, query, key, value, mask, **options)
    found, _ = attention.attend(layer, query, key, value, mask, **options)
    assert torch.equal(found, expected)
    assert not products


@pytest.mark.parametrize("tokens", [20, 300])
def test_it_learns_as_exactly_as_the_fused_kernel(products, tokens):
    """Gradients against float64's; those of short texts are computed in float32, and rounded once."""
    mask = padding([tokens, 3, tokens, 1, 11], tokens)

    def gradients(attend, dtype):
        parts = [part.to(dtype).requires_grad_() for part in states(tokens=tokens)]
        attend(Layer(), *parts, mask, scaling=0.4)[0].square().sum().backward()
        return torch.cat([part.grad.double().flatten() for part in parts])

    exact = gradients(sdpa_attention_forward, torch.float64)
    ours, kernel = (
        (gradients(attend, torch.bfloat16) - exact).norm() / exact.norm()
        for attend in (attention.attend, sdpa_attention_forward)
    )
    assert ours < 0.01 and (ours < kernel if tokens <= attention.MAX_LEARNT_TOKENS else ours == kernel)
    assert not products


@pytest.mark.parametrize(
    ("kind", "used"), [("bert", True), ("distilbert", True), ("roberta", True), ("modernbert", None)]
)
def test_models_in_bfloat16_use_it(kind, used, encoders, products):
    exact = encoder.encode(encoder.load(encoders[kind]), TEXTS, "document")
    assert not products
    found = encoder.encode(encoder.load(encoders[kind], "bfloat16"), TEXTS, "document")
    assert used is None or bool(products) == used
    cosines = (exact * found).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(found, axis=1)
    assert cosines.min() > 0.999


def test_a_teacher_in_bfloat16_uses_it(cross_encoders, products):
    """All but the last layer, which looks at the pair from one token alone."""
    ids = np.random.default_rng(0).integers(5, 150, (9, 40))
    features = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    teachers = [cross_encoder.load(cross_encoders["bert"], 48, dtype) for dtype in ("float32", "bfloat16")]
    exact = cross_encoder.forward(teachers[0].model, features, None)
    assert not products
    found = cross_encoder.forward(teachers[1].model, features, None)
    assert len(products) == teachers[1].model.model.config.num_hidden_layers - 1
    assert exact.std() > 1
    np.testing.assert_allclose(found, exact, atol=0.25)
