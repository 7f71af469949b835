"""LoRA: nothing changes at the start, only the targets' weights in the end, and those by the merge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from retrieval_distill.config import LoRAConfig, StudentConfig, load_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.student import adapter, build, encoder
from retrieval_distill.training import checkpoints
from tests.training.driver import train

TEXTS = ["path file", "a much longer text about the graph " * 6, "Hash Byte buffer", "sort " * 30]


def stir(student: SentenceTransformer) -> None:
    """As a training would: the second matrices leave zero."""
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "modernbert", "gpt2"])
def test_merged_is_unmerged(families, kind, tmp_path):
    config = {"model": families[kind], "max_length": 40}
    plain, student = build.build(StudentConfig(**config)), build.build(StudentConfig(**config, lora=LoRAConfig(rank=4)))
    np.testing.assert_allclose(student.encode(TEXTS), plain.encode(TEXTS), atol=1e-6)
    stir(student)
    expected = encoder.encode(student, TEXTS, "document")
    assert np.abs(expected - plain.encode(TEXTS)).max() > 0.01
    adapter.merge(student)
    student.save_pretrained(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert loaded.state_dict().keys() == plain.state_dict().keys()
    np.testing.assert_allclose(loaded.encode(TEXTS), expected, atol=1e-5)


def test_only_the_targets_change_and_by_the_product(families):
    lora = LoRAConfig(rank=4, alpha=12, targets=("query", "value"))
    student = build.build(StudentConfig(model=families["bert"], lora=lora))
    stir(student)
    trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trained)
    layer = student[0].model.get_base_model().encoder.layer[2].attention.self.query
    first, second = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
    added = 12 / 4 * second @ first
    adapter.merge(student)
    before = build.build(StudentConfig(model=families["bert"]))[0].auto_model.state_dict()
    changed = set()
    for name, weight in student[0].auto_model.state_dict().items():
        if not torch.equal(weight, before[name]):
            changed.add(name)
    assert changed == {
        f"encoder.layer.{i}.attention.self.{part}.weight" for i in range(4) for part in ("query", "value")
    }
    name = "encoder.layer.2.attention.self.query.weight"
    torch.testing.assert_close(student[0].auto_model.state_dict()[name], before[name] + added)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_gradients_reach_adapters_and_projection_alone(families, dtype):
    student = build.build(StudentConfig(model=families["bert"], max_length=40, dimensions=12, lora=LoRAConfig(rank=4)))
    stir(student)
    rows = [np.arange(5, 5 + n, dtype=np.int32) for n in (3, 9, 14, 6)]
    exact = encoder.encode_rows(student, rows)
    vectors = encoder.encode_rows(student, rows, dtype)
    torch.testing.assert_close(vectors, exact, atol=1e-6 if dtype is None else 0.05, rtol=0)
    (vectors * torch.arange(12)).sum().backward()
    moved = {name for name, parameter in student.named_parameters() if parameter.grad is not None}
    assert any("lora_A" in name for name in moved)
    assert {name for name in moved if "lora_" not in name} == {"2.linear.weight"}


def with_lora(tiny_recipe: dict, families: dict) -> dict:
    student = {"model": families["distilbert"], "max_length": 48, "lora": {"rank": 4}, "separate": True}
    training = {**tiny_recipe["training"], "steps": 6, "save_steps": 2, "learning_rate": 1e-3}
    return {**tiny_recipe, "student": student, "training": training}


def test_interrupted_it_ends_the_same(tiny_recipe, families, tmp_path, monkeypatch):
    values = with_lora(tiny_recipe, families)
    train(values, tmp_path / "whole")
    real = checkpoints.Advance.on_step_end

    def dying(self, args, state, control, **rest):
        real(self, args, state, control, **rest)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Advance, "on_step_end", dying)
        with pytest.raises(KeyboardInterrupt):
            train(values, tmp_path / "killed")
    assert (tmp_path / "killed" / "checkpoints" / "checkpoint-4" / "whole").is_file()
    train(values, tmp_path / "killed")
    for part in ("query", "document"):
        file = f"{part}_0_Transformer/model.safetensors"
        whole, killed = (load_file(tmp_path / name / file) for name in ("whole", "killed"))
        original = encoder.load(families["distilbert"])[0].auto_model.state_dict()
        assert whole.keys() == killed.keys() == original.keys()
        assert all(torch.equal(weight, killed[name]) for name, weight in whole.items())
        linear = {name for name in original if name.endswith("weight") and ("lin" in name)}
        assert {name for name in original if not torch.equal(whole[name], original[name])} == linear


def test_in_a_recipe():
    assert load_recipe("demo", ["student.lora={}"]).student.lora == LoRAConfig(rank=16, alpha=32, targets="all-linear")
    with pytest.raises(UserError, match=r"'student\.lora\.ranks' does not exist; did you mean 'rank'"):
        load_recipe("demo", ["student.lora.ranks=3"])


def test_targets_that_are_not_there(families):
    with pytest.raises(UserError, match=r"student.lora.targets=\('nothing',\): Target modules"):
        build.build(StudentConfig(model=families["bert"], lora=LoRAConfig(targets=("nothing",))))
