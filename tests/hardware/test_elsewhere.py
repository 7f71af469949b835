"""Models on another device than the CPU: nothing is left behind, and what comes back is what the CPU computes."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module

import numpy as np
import pytest
import torch

from retrieval_distill import api
from retrieval_distill.config import StudentConfig, TrainingConfig
from retrieval_distill.hardware import devices, varlen
from retrieval_distill.objectives import OBJECTIVES, Mix
from retrieval_distill.objectives.views import parse_views
from retrieval_distill.student import build, encoder
from retrieval_distill.teacher import bi_encoder, cross_encoder
from retrieval_distill.training.distillation_model import DistillationModel
from retrieval_distill.training.trainer_arguments import arguments
from tests import stand_in
from tests.teacher.decoders import classifying_decoder, yes_or_no_decoder
from tests.teacher.test_cross_encoder import KINDS, PAIRS, scores_of
from tests.training.driver import train
from tests.training.test_distillation import weights, with_training
from tests.training.test_gradient_caching import batch_of


@pytest.fixture
def there(monkeypatch):
    """Makes the stand-in the best device from now on."""
    stack = ExitStack()

    def go() -> None:
        monkeypatch.setattr(devices, "device", lambda: stand_in.NAME)
        monkeypatch.setattr(devices, "devices", lambda: [stand_in.NAME])
        monkeypatch.setenv("ACCELERATE_TORCH_DEVICE", stand_in.NAME)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(import_module("torch.optim.adam"), "_device_dtype_check_for_fused", lambda *_, **__: None)
        for budgets in (encoder.TOKENS_PER_BATCH, encoder.TOKENS_AT_ONCE, cross_encoder.TOKENS_PER_BATCH):
            monkeypatch.setitem(budgets, stand_in.NAME, 256)
        stack.enter_context(stand_in.device())

    with stack:
        yield go


def test_the_stand_in_refuses_to_mix(there):
    there()
    layer = torch.nn.Linear(3, 2)
    given = torch.randn(4, 3)
    expected = layer(given)
    layer.to(stand_in.NAME)
    with pytest.raises(RuntimeError, match="operands on meta and on cpu"):
        layer(given)
    found = layer(given.to(stand_in.NAME))
    assert found.device.type == stand_in.NAME
    with pytest.raises(RuntimeError, match="numpy"):
        found.detach().numpy()
    assert torch.equal(found.cpu(), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_cross_encoders(cross_encoders, kind, dtype, there):
    expected = scores_of(cross_encoder.load(cross_encoders[kind], 40, dtype))
    there()
    teacher = cross_encoder.load(cross_encoders[kind], 40, dtype)
    assert teacher.model.device.type == stand_in.NAME
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-5 if dtype == "float32" else 0.25)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert"])
def test_cross_encoders_without_padding(cross_encoders, kind, there, monkeypatch):
    expected = scores_of(cross_encoder.load(cross_encoders[kind], 40, "float32"))
    there()
    monkeypatch.setattr(varlen, "is_available", lambda *_: True)
    np.testing.assert_allclose(scores_of(cross_encoder.load(cross_encoders[kind], 40, "float32")), expected, atol=1e-5)


@pytest.mark.parametrize("make", [yes_or_no_decoder, classifying_decoder])
def test_decoders(make, tmp_path, there):
    folder = make(tmp_path)
    expected = scores_of(cross_encoder.load(folder, 40, "float32"))
    there()
    np.testing.assert_allclose(scores_of(cross_encoder.load(folder, 40, "float32")), expected, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_bi_encoders(encoders, kind, there):
    expected = scores_of(bi_encoder.load(encoders[kind], 40, "float32"))
    there()
    np.testing.assert_allclose(scores_of(bi_encoder.load(encoders[kind], 40, "float32")), expected, atol=1e-4)


EVERY = {
    "objectives": dict.fromkeys(OBJECTIVES, 0.1),
    "views": {"full": 1.0, 16: 0.5, "int8": 0.5, "8/binary": 0.25},
}


@pytest.mark.parametrize("cache_texts", [None, 3])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_step(encoders, kind, cache_texts, there):
    """Every objective in every view, with an embedding teacher of other dimensions and documents of BM25's."""
    batch = batch_of([5, 4, 9, 12, 7, 6, 11], 2, 3)
    rng = torch.Generator().manual_seed(0)
    batch |= {"lexical": torch.randn(2, 5, generator=rng)}
    batch |= {f"teacher_{side}": torch.randn(n, 24, generator=rng) for side, n in (("queries", 2), ("documents", 5))}
    student = build.build(StudentConfig(model=encoders[kind], max_length=40))
    build.set_dropout(student, 0.0)
    views = parse_views(EVERY["views"])
    model = DistillationModel(student, Mix(EVERY["objectives"]), 20.0, None, cache_texts, views, 24).train()

    def step(batch):
        outputs = model(**batch)
        outputs["loss"].backward()
        found = {name: p.grad.cpu().clone() for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad()
        return outputs["loss"].item(), found

    loss, expected = step(batch)
    there()
    model.to(stand_in.NAME)
    moved = {name: v.to(stand_in.NAME) if isinstance(v, torch.Tensor) else v for name, v in batch.items()}
    assert step(moved)[0] == pytest.approx(loss, rel=1e-4)
    for name, gradient in step(moved)[1].items():
        torch.testing.assert_close(gradient, expected[name], atol=2e-4, rtol=1e-3)


WAYS = {
    "usual": {},
    "caching": {"cache_texts": 3},
    "memory": {"memory": 12, "ema": 0.5, "layer_decay": 0.9},
    "frozen": {"frozen_layers": 2, "evaluate_steps": 2, "dev_documents": 30},
    "with BM25": {"lexical_weight": 1.0, "topics": 3, "gradient_accumulation": 2},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_training(tiny_recipe, tmp_path, way, there):
    """Also with more devices than one in sight: a process trains on one."""
    values = with_training(tiny_recipe, steps=3, **WAYS[way])
    expected = train(values, tmp_path / "here")
    there()
    found = train(values, tmp_path / "there")
    for row, other in zip(found, expected, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
    for name, weight in weights(tmp_path / "there").items():
        torch.testing.assert_close(weight, weights(tmp_path / "here")[name], atol=1e-5, rtol=1e-4)


def test_a_process_trains_on_one_device(tmp_path, there):
    there()
    made = arguments(TrainingConfig(), 1, 0, None, tmp_path, per_device_train_batch_size=32)
    assert (made.device.type, made.n_gpu, made.train_batch_size) == (stand_in.NAME, 1, 32)


def test_a_model_that_was_made_fast_for_a_cpu(encoders, monkeypatch, there):
    """As one that a machine without a GPU sends to one that has a GPU."""
    monkeypatch.setattr(devices, "_cpu_info", lambda: {"vendor_id": "AuthenticAMD"})
    model = encoder.load(encoders["bert"])
    expected = encoder.encode(model, PAIRS.documents, "document")
    there()
    found = encoder.encode(model.to(stand_in.NAME), PAIRS.documents, "document")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("there_too", [True, False])
def test_copies(there, there_too):
    there()
    given = torch.arange(6.0).reshape(2, 3)
    found = devices.to_device(given, stand_in.NAME if there_too else "cpu")
    assert found.device.type == (stand_in.NAME if there_too else "cpu")
    assert torch.equal(found.cpu(), given)


def test_mining(encoders, dataset, tmp_path, there):
    """Embedding to disk and exact search."""
    options = {"start": encoders["bert"], "depth": 8, "keep": 4, "dtype": "float32"}
    expected = api.mine(dataset, vectors=tmp_path / "here", **options)
    there()
    found = api.mine(dataset, vectors=tmp_path / "there", **options)
    assert found.frame[["query_id", "doc_id"]].equals(expected.frame[["query_id", "doc_id"]])
    np.testing.assert_allclose(found.frame["score"], expected.frame["score"], atol=1e-5)


def test_compression(encoders, dataset, tmp_path, there):
    options = {
        "model": encoders["bert"], "layers": "spaced:3", "steps": 2, "tokens_per_step": 256, "max_length": 32,
        "bf16": False, "depths": [2], "self_distillation": 0.5,
        "transfers": {
            "relations": 1.0, "attention_maps": 1.0, "embedding": 1.0, "hidden_states": {"mapping": "earth_mover"},
        },
    }  # fmt: skip
    api.compress(dataset.documents, out=tmp_path / "here", **options)
    there()
    api.compress(dataset.documents, out=tmp_path / "there", **options)
    for name, weight in weights(tmp_path / "there").items():
        torch.testing.assert_close(weight, weights(tmp_path / "here")[name], atol=1e-5, rtol=1e-4)


def test_fitting_a_teacher(cross_encoders, dataset, tmp_path, there):
    """Of a model that has its head: a fresh one would be drawn in another order there."""
    options = {"model": cross_encoders["bert"], "adapter": "none", "steps": 2, "evaluate_every": 1, "bf16": False}
    api.fit_teacher(dataset, out=tmp_path / "here", **options)
    there()
    api.fit_teacher(dataset, out=tmp_path / "there", **options)
    for name, weight in weights(tmp_path / "there").items():
        if name.endswith("key.bias"):
            continue  # its gradient is 0 but for rounding, which Adam scales up to a step
        torch.testing.assert_close(weight, weights(tmp_path / "here")[name], atol=1e-5, rtol=1e-4)
