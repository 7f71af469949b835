"""Trackers are given every row of the log; one that is not installed is named with the command that installs it."""

from __future__ import annotations

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from retrieval_distill.errors import UserError
from retrieval_distill.training import trackers as module
from retrieval_distill.training.trackers import trackers
from tests.training.driver import train
from tests.training.test_distillation import with_training


class Notebook(TrainerCallback):
    """A tracker that writes down what it is given."""

    rows: list = []  # noqa: RUF012

    def on_log(self, args, state, control, logs=None, **_):
        self.rows.append({"step": state.global_step, **logs})


def offer(monkeypatch, name: str, callback: type) -> None:
    """A tracker that is installed."""
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, name, callback)
    monkeypatch.setattr(module, "get_available_reporting_integrations", lambda: [name])


def test_values_arrive(tiny_recipe, tmp_path, monkeypatch):
    offer(monkeypatch, "notebook", Notebook)
    monkeypatch.setattr(Notebook, "rows", [])
    values = with_training(tiny_recipe, steps=6, evaluate_steps=3, report_to=["notebook"])
    log = train(values, tmp_path / "student")
    by_step: dict[int, dict] = {}
    for row in Notebook.rows:
        by_step.setdefault(row["step"], {}).update(row)
    for row in log:
        assert row.items() - {("kept", True)} <= by_step[row["step"]].items()
    assert {"loss", "margin_mse", "listwise_kl", "in_batch", "tokens_per_second", "eval_nDCG@10"} <= by_step[6].keys()


def test_tensorboard_keeps_its_events(tiny_recipe, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = train(with_training(tiny_recipe, steps=6, report_to=["tensorboard"]), tmp_path / "student")
    events = EventAccumulator(str(tmp_path / "student" / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/listwise_kl")] == pytest.approx(
        [row["listwise_kl"] for row in log]
    )


@pytest.mark.parametrize(
    ("name", "available", "command"),
    [
        ("tensorboard", "is_tensorboard_available", "pip install tensorboard"),
        ("wandb", "is_wandb_available", "pip install wandb"),
        ("trackio", "is_trackio_available", "pip install trackio"),
        ("mlflow", "is_mlflow_available", "pip install mlflow"),
        ("comet_ml", "is_comet_available", "pip install comet-ml"),
    ],
)
def test_not_installed(monkeypatch, name, available, command):
    monkeypatch.setattr(integration_utils, available, lambda: False)
    with pytest.raises(UserError, match=f"training.report_to: '{name}' needs: {command}"):
        trackers([name])


def test_unknown():
    with pytest.raises(UserError, match="'tensorbord' is unknown; did you mean 'tensorboard'"):
        trackers(["tensorbord"])


def test_where_tensorboard_writes(tmp_path, monkeypatch):
    """Beside the student, for the checkpoints' folder is removed; a folder from the environment is left alone."""

    class Board(TrainerCallback):
        def __init__(self):
            self.logging_dir = given

    offer(monkeypatch, "tensorboard", Board)
    given = None
    assert trackers(["tensorboard"], tmp_path)[0].logging_dir == str(tmp_path / "tensorboard")
    given = "elsewhere"
    assert trackers(["tensorboard"], tmp_path)[0].logging_dir == "elsewhere"
