"""Frozen layers run once: the others learn as if they ran every time, and a model that cannot be run without them is refused by name."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AlbertConfig, AutoModel, T5Config, T5EncoderModel

from retrieval_distill.config import StudentConfig, parse_recipe
from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError
from retrieval_distill.objectives import Mix
from retrieval_distill.student import build, encoder
from retrieval_distill.training import frozen_layers, token_store
from retrieval_distill.training.distillation_model import DistillationModel
from tests.student.conftest import FAMILIES, families, gpt2_tokenizer  # noqa: F401
from tests.training.driver import train
from tests.training.test_distillation import with_training
from tests.training.test_gradient_caching import batch_of

TEXTS = ["path file", "a much longer text about the graph " * 6, "Hash Byte buffer", "sort node edge tree " * 8, "x"]


def frozen(model: str, count: int, **options):
    student = build.build(StudentConfig(model=model, max_length=60, **options))
    build.set_dropout(student, 0.0)
    frozen_layers.freeze(student, count)
    return student


def gradients(student, batch: dict, dtype, cache_texts=None):
    model = DistillationModel(student, Mix({"listwise_kl": 1.0, "in_batch": 0.5}), 20.0, dtype, cache_texts).train()
    outputs = model(**batch)
    outputs["loss"].backward()
    found = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()
    return outputs["loss"].item(), found


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("kind", FAMILIES)
def test_gradients_are_those_of_a_step_in_which_all_layers_run(families, kind, count, tmp_path):  # noqa: F811
    student = frozen(families[kind], count)
    ids = [f"t{number}" for number in range(len(TEXTS))]
    texts = Texts.from_records((id_, "", text) for id_, text in zip(ids, TEXTS, strict=True))
    cut = {way: token_store.tokenize(student, texts, way, None, tmp_path / way) for way in ("query", "document")}
    kept = frozen_layers.hidden_states(student, cut, count, None, tmp_path / "states")
    batch = batch_of([1] * 7, 2, 3)
    asked, found = ["t0", "t3"], ["t4", "t1", "t2", "t3", "t0"]
    batch |= {"queries": [cut["query"][id_] for id_ in asked], "documents": [cut["document"][id_] for id_ in found]}
    entered = {"queries": [kept["query"][id_] for id_ in asked], "documents": [kept["document"][id_] for id_ in found]}
    whole_loss, whole = gradients(student, batch, None)
    assert not any("embeddings" in name or "wte" in name or "attention_bias" in name or ".0." in name for name in whole)
    for cache_texts in (None, 2):
        loss, upper = gradients(student, {**batch, **entered}, None, cache_texts)
        assert loss == pytest.approx(whole_loss, rel=1e-5)
        assert upper.keys() == whole.keys()
        flat, expected = (torch.cat([side[name].flatten() for name in whole]) for side in (upper, whole))
        assert expected.norm() > 0 and (flat - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_states_are_kept_as_they_were_computed(encoders, tmp_path, dtype, caplog):
    """In bfloat16 they are the bits that a step would have had; a second call computes nothing."""
    student = frozen(encoders["bert"], 2)
    texts = Texts.from_records((f"t{i}", "", text) for i, text in enumerate(TEXTS))
    cut = token_store.tokenize(student, texts, "query", None, tmp_path / "tokens")
    with caplog.at_level(logging.INFO, "retrieval_distill"):
        kept = frozen_layers.hidden_states(student, {"query": cut, "document": cut}, 2, dtype, tmp_path / "states")[
            "query"
        ]
    width = 2 if dtype else 4
    assert (
        f"the outputs of 2 frozen layers for 10 texts take {2 * 32 * width * len(cut.tokens.flat) / 1000:.1f} kB"
        in caplog.text
    )
    assert np.load(tmp_path / "states" / "query" / "states.npy").nbytes == 32 * width * len(cut.tokens.flat)
    weights = None if dtype is None else {name: w.to(dtype) for name, w in student[0].named_parameters()}
    for id_ in texts.ids:
        with torch.no_grad():
            [alone] = encoder.states(student, [cut[id_]], 2, weights)
        assert kept[id_].values.dtype == (dtype or torch.float32) and kept[id_].layers == 2
        torch.testing.assert_close(kept[id_].values, alone.values, atol=1e-5 if dtype is None else 0.1, rtol=1e-4)
    before = (tmp_path / "states" / "query" / "states.npy").stat().st_mtime_ns
    frozen_layers.hidden_states(student, {"query": cut, "document": cut}, 2, dtype, tmp_path / "states")
    assert (tmp_path / "states" / "query" / "states.npy").stat().st_mtime_ns == before
    with torch.no_grad():
        student[0].auto_model.encoder.layer[1].output.dense.bias.add_(1)
    other = frozen_layers.hidden_states(student, {"query": cut, "document": cut}, 2, dtype, tmp_path / "states")[
        "query"
    ]
    assert not torch.equal(other["t0"].values, kept["t0"].values)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_training_with_frozen_layers(tiny_recipe, tmp_path, monkeypatch, bf16):
    """Every loss is that of a training in which the same layers are frozen and run each time."""
    values = with_training(
        tiny_recipe, steps=6, save_steps=1, learning_rate=2e-3, dropout=0.0, frozen_layers=2, bf16=bf16, layer_decay=0.9
    )
    kept = train(values, tmp_path / "kept")
    with monkeypatch.context() as patched:
        patched.setattr(frozen_layers, "hidden_states", lambda student, texts, *_: texts)
        run = train(values, tmp_path / "run")
    for one, other in zip(kept, run, strict=True):
        for key in ("loss", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=0.05 if bf16 else 1e-4)
    start, trained, expected = (
        load_file(folder + "/model.safetensors")
        for folder in (values["student"]["model"], str(tmp_path / "kept"), str(tmp_path / "run"))
    )
    for name, weight in trained.items():
        moved = not torch.equal(weight, start[name])
        assert moved == any(f"layer.{number}." in name for number in (2, 3)), name
        torch.testing.assert_close(weight, expected[name], atol=0.02 if bf16 else 1e-4, rtol=1e-3)


@pytest.mark.parametrize("options", [{"separate": True}, {"lora": {"rank": 4}}])
def test_two_encoders_and_adapters(tiny_recipe, tmp_path, options):
    values = with_training(tiny_recipe, steps=2, frozen_layers=2, learning_rate=1e-2, warmup=0)
    log = train({**values, "student": {**values["student"], **options}}, tmp_path / "student")
    assert np.isfinite(log[-1]["loss"])
    start = load_file(values["student"]["model"] + "/model.safetensors")
    saved = (tmp_path / "student").rglob("model.safetensors")
    found = [load_file(path) for path in saved if "checkpoints" not in path.parts]
    assert len(found) == (2 if "separate" in options else 1)
    for weights in found:
        same = {name for name, weight in weights.items() if torch.equal(weight, start[name])}
        assert any("layer.3." in name for name in weights.keys() - same)
        assert {name for name in weights if "layer.0." in name or "layer.1." in name or "embeddings" in name} <= same


def save(model, tokenizer, folder) -> str:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_architectures_without_such_layers_are_refused_by_name(tokenizers_by_kind, encoders, tmp_path):
    tokenizer = tokenizers_by_kind["bert"]
    sizes = dict(vocab_size=len(tokenizer), pad_token_id=0)
    albert = AlbertConfig(
        hidden_size=32, embedding_size=16, num_hidden_layers=4, num_attention_heads=4, intermediate_size=64, **sizes
    )
    shared = save(AutoModel.from_config(albert), tokenizer, tmp_path / "albert")
    with pytest.raises(UserError, match=r"training\.frozen_layers: cannot find the layers of a AlbertModel"):
        frozen(shared, 2)
    t5 = T5Config(d_model=32, d_kv=8, d_ff=64, num_layers=4, num_heads=4, **sizes)
    biased = save(T5EncoderModel(t5), tokenizer, tmp_path / "t5")  # the first layer's position bias serves all others
    with pytest.raises(
        UserError, match=r"training\.frozen_layers: a T5EncoderModel cannot be run without its lowest 2"
    ):
        frozen(biased, 2)
    with pytest.raises(
        UserError, match=r"training\.frozen_layers=4: the student has 4 layers, and at least one must be trained"
    ):
        frozen(encoders["bert"], 4)


def test_a_disk_without_room_is_told_before(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(frozen_layers.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(
        UserError, match=r"training\.frozen_layers: the outputs of 2 .* kB of .* 1\.0 kB left; free some disk space"
    ):
        train(with_training(tiny_recipe, frozen_layers=2), tmp_path / "student")
    assert parse_recipe(tiny_recipe).training.frozen_layers is None
