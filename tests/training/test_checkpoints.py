"""A training continues from the newest checkpoint that is as it was written, and from no other."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from retrieval_distill.training.checkpoints import MarkComplete, last_complete
from tests.training.driver import train
from tests.training.test_distillation import program, with_training


def save(folder: Path, step: int, best: int | None = None) -> Path:
    """A checkpoint as the trainer leaves it."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", "rng_state_0.pth"):
        (checkpoint / name).write_text(f"{name} of step {step}")
    named = str(folder / f"checkpoint-{best}") if best else None
    (checkpoint / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": named}))
    state = SimpleNamespace(is_world_process_zero=True, global_step=step, best_model_checkpoint=named)
    MarkComplete().on_save(SimpleNamespace(output_dir=str(folder)), state, None)
    return checkpoint


def test_the_newest_is_continued_from(tmp_path):
    assert last_complete(tmp_path) is None
    save(tmp_path, 8)
    newest = save(tmp_path, 16)
    assert last_complete(tmp_path) == newest


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "trainer_state.json", "whole"])
def test_an_altered_one_is_passed_over(tmp_path, name, caplog):
    save(tmp_path, 8)
    newest = save(tmp_path, 16)
    data = bytearray((newest / name).read_bytes())
    data[len(data) // 2] ^= 1
    (newest / name).write_bytes(data)
    assert last_complete(tmp_path) == tmp_path / "checkpoint-8"
    assert f"not resuming from {newest}: {name}" in caplog.text and not newest.exists()


def test_torn_ones_and_ones_of_older_versions(tmp_path):
    older = save(tmp_path, 8)
    (older / "whole").write_text("")  # which marked them, and did not list their files
    (save(tmp_path, 16) / "whole").unlink()
    assert last_complete(tmp_path) == older


def test_what_was_best_so_far_must_be_there_too(tmp_path):
    best = save(tmp_path, 8, best=8)
    save(tmp_path, 16, best=8)
    (best / "model.safetensors").write_text("altered")
    assert last_complete(tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_files_of_other_processes_are_not_waited_for(tmp_path, monkeypatch):
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    checkpoint = tmp_path / "checkpoint-8"
    checkpoint.mkdir()
    (checkpoint / "rng_state_1.pth").write_text("half of i")
    (checkpoint / "trainer_state.json").write_text("{}")
    state = SimpleNamespace(is_world_process_zero=True, global_step=8, best_model_checkpoint=None)
    MarkComplete().on_save(SimpleNamespace(output_dir=str(tmp_path)), state, None)
    (checkpoint / "rng_state_1.pth").write_text("half of it, and the rest")
    assert last_complete(tmp_path) == checkpoint


def test_a_training_with_an_altered_checkpoint_ends_the_same(tiny_recipe, tmp_path):
    values = with_training(tiny_recipe, steps=9, save_steps=3)
    train(values, tmp_path / "whole")
    assert program(values, tmp_path / "killed", "8").returncode < 0
    path = tmp_path / "killed" / "checkpoints" / "checkpoint-6" / "optimizer.pt"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 64
    path.write_bytes(data)
    train(values, tmp_path / "killed")
    one, other = (tmp_path / name / "model.safetensors" for name in ("whole", "killed"))
    assert one.read_bytes() == other.read_bytes()
