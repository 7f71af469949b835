"""Ctrl-C in a training says which checkpoint is kept, and that is where it goes on."""

from __future__ import annotations

import pytest

from retrieval_distill.training import checkpoints
from tests.training.driver import train
from tests.training.test_distillation import with_training


@pytest.mark.parametrize(("step", "kept"), [(1, None), (5, 4)])
def test_a_stopped_training_says_what_is_kept(tiny_recipe, tmp_path, monkeypatch, caplog, step, kept):
    values = with_training(tiny_recipe, steps=6, save_steps=2)
    steps = []
    real = checkpoints.Advance.on_step_end

    def stopping(self, args, state, control, **rest):
        real(self, args, state, control, **rest)
        steps.append(state.global_step)
        if state.global_step == step and len(steps) == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Advance, "on_step_end", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(values, tmp_path / "student")
    said = f"checkpoint-{kept} is kept" if kept else "there is no checkpoint yet, so it will start from the beginning"
    assert f"training stopped; {'' if kept is None else tmp_path / 'student' / 'checkpoints'}" in caplog.text
    assert said in caplog.text
    train(values, tmp_path / "student")
    assert steps[step:] == list(range((kept or 0) + 1, 7))
