"""What a model computes does not depend on where, or in which order, its weights lie in memory."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from retrieval_distill.config import TrainingConfig
from retrieval_distill.hardware import devices
from retrieval_distill.student import encoder
from retrieval_distill.teacher import cross_encoder
from retrieval_distill.training import trainer_arguments
from tests import programs

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


@pytest.mark.parametrize("cpu", ["this one", "one whose products are left to PyTorch"])
def test_a_copy_of_a_model_gives_the_same_bytes(cpu, cross_encoders, encoders, monkeypatch):
    """Read from files and copied in memory, as a model is that travels to another machine."""
    if cpu != "this one":
        monkeypatch.setattr(devices, "_cpu_info", dict)
    teacher, student = cross_encoder.load(cross_encoders["bert"], 48, "float32"), encoder.load(encoders["bert"])
    rng = np.random.default_rng(0)
    for pairs, tokens in ((85, 48), (100, 40), (50, 47), (7, 33)):
        ids = rng.integers(5, 150, (pairs, tokens))
        features = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found = [
            cross_encoder.forward(model, features, None) for model in (teacher.model, copy.deepcopy(teacher.model))
        ]
        assert np.array_equal(*found)
    texts = ["path file " * n for n in range(1, 30)]
    assert np.array_equal(*(encoder.encode(model, texts, "document") for model in (student, copy.deepcopy(student))))


@pytest.fixture(params=["in two orders", "too large for that"])
def layer(request, monkeypatch) -> nn.Linear:
    if request.param == "too large for that":
        monkeypatch.setattr(devices, "_ORDERED_BYTES", 0)
    monkeypatch.setattr(devices, "_cpu_info", lambda: {"vendor_id": "AuthenticAMD", "flags": "avx512_bf16"})
    torch.manual_seed(0)
    return nn.Linear(96, 160)


def sped_up(layer: nn.Linear, dtype: torch.dtype) -> nn.Linear:
    layer.to(dtype)
    devices.speed_up_linear_layers(layer)
    return layer


def assert_follows_its_weights(layer: nn.Linear) -> None:
    """Products are those of the weights as they are now, but for float32's sums and the rounding of what comes out."""
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    given = torch.randn(3, 11, layer.in_features).to(layer.weight.dtype)
    with torch.inference_mode():
        found = layer(given).double()
    expected = given.double() @ weight.T + bias
    summed = given.double().abs() @ weight.abs().T + bias.abs()
    rounding = torch.finfo(layer.weight.dtype).eps * expected.abs()
    assert ((found - expected).abs() <= rounding + layer.in_features * torch.finfo(torch.float32).eps * summed).all()


@DTYPES
def test_linear_layers_follow_their_weights(layer, dtype):
    """Whatever changes them: a step, another place, a loaded state, another dtype."""
    layer = sped_up(layer, dtype)
    assert_follows_its_weights(layer)
    for optimiser in (torch.optim.SGD(layer.parameters(), 0.5), torch.optim.AdamW(layer.parameters(), 0.5, fused=True)):
        optimiser.zero_grad()
        layer(torch.randn(2, 96).to(dtype)).sum().backward()
        optimiser.step()
        assert_follows_its_weights(layer)
    layer.weight.data = torch.randn(160, 96).to(dtype)
    assert_follows_its_weights(layer)
    layer.load_state_dict({"weight": torch.randn(160, 96), "bias": torch.randn(160)})
    assert_follows_its_weights(layer)
    layer.weight = nn.Parameter(torch.randn(160, 96).to(dtype))
    assert_follows_its_weights(layer)
    assert_follows_its_weights(layer.to(torch.float32))


@DTYPES
def test_weights_that_are_lent_for_a_call_are_used_in_it_alone(layer, dtype):
    layer = sped_up(layer, dtype)
    assert_follows_its_weights(layer)
    given = torch.randn(5, 96).to(dtype)
    for _ in range(3):  # each at the address of the last one
        lent = {"weight": torch.randn(160, 96).to(dtype), "bias": torch.zeros(160, dtype=dtype)}
        with torch.no_grad():
            found = torch.func.functional_call(layer, lent, (given,))
        torch.testing.assert_close(
            found, given @ lent["weight"].T, rtol=0.02, atol=1e-3 if dtype == torch.float32 else 0.2
        )
        del lent
    assert_follows_its_weights(layer)


@DTYPES
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["copy", "pickle"]
)
def test_copies_are_independent(layer, dtype, copied):
    layer = sped_up(layer, dtype)
    assert_follows_its_weights(layer)
    other = copied(layer)
    with torch.no_grad():
        other.weight.mul_(2)
    assert_follows_its_weights(other)
    assert_follows_its_weights(layer)


def test_a_model_that_learns_keeps_its_weights_once(layer):
    devices.speed_up_linear_layers(layer, learns=True)
    assert_follows_its_weights(layer)
    assert layer._ordered is None


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_without_instructions_for_it_is_said(native, cross_encoders, encoders, monkeypatch, caplog):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: native)
    acts = {
        "teacher": lambda dtype: cross_encoder.load(cross_encoders["bert"], 48, dtype),
        "embedder": lambda dtype: encoder.load(encoders["bert"], dtype),
        "training": lambda dtype: trainer_arguments.dtype(TrainingConfig(bf16=dtype == "bfloat16")),
    }
    for act in acts.values():
        for dtype in ("float32", "bfloat16"):
            caplog.clear()
            act(dtype)
            said = "hundreds of times slower than float32 on this CPU" in caplog.text
            assert said == (dtype == "bfloat16" and not native)


@pytest.mark.parametrize(
    "cpuinfo, named",
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_bf16", ["avx2", "avx512f", "avx512_bf16"]),
        ("Features\t: fp asimd i8mm", ["asimd", "i8mm"]),
        ("model name\t: unknown", []),
    ],
)
def test_the_processors_instructions_are_named(monkeypatch, cpuinfo, named):
    monkeypatch.setattr(devices.Path, "read_text", lambda path: f"processor\t: 0\n{cpuinfo}\n\nprocessor\t: 1\n")
    devices._cpu_info.cache_clear()
    try:
        assert devices.describe()["instructions"] == named
    finally:
        devices._cpu_info.cache_clear()


def test_what_a_machine_can_do_is_printed_and_written(tmp_path):
    options = ["--seconds", "0", "--size", "64", "--json", tmp_path / "machine.json"]
    done = programs.run("scripts/machine.py", *options)
    assert done.returncode == 0 and "GFLOP/s" in done.stdout, done.stderr
    told = json.loads((tmp_path / "machine.json").read_text())
    assert set(devices.DTYPES) <= set(told["gflops"]) and told["gigabytes_per_second"] > 0
    assert told["environment"]["instructions"] == devices.instructions()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [False, True])
def test_a_gated_gelu_is_the_product_of_its_parts(dtype, bias):
    value, gate = (torch.nn.Linear(24, 40, bias=bias).to(dtype) for _ in range(2))
    states = torch.randn(3, 7, 24).to(dtype)
    expected = (torch.nn.functional.gelu(value(states)) * gate(states)).detach()
    both = torch.nn.ModuleList([value, gate])
    close = {torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    for _ in range(2):  # as they are, then made fast
        with torch.inference_mode():
            torch.testing.assert_close(devices.gated_gelu(value, gate, states), expected, atol=close, rtol=close)
        devices.speed_up_linear_layers(both)
    devices.gated_gelu(value, gate, states).sum().backward()
    assert value.weight.grad is not None and gate.weight.grad is not None
