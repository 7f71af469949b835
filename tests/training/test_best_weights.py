"""The student has the best weights of an evaluated training, or the average of them, whatever happened on the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from retrieval_distill import api
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.training import checkpoints, dev_retrieval, distillation
from retrieval_distill.training.early_stopping import exhausted
from tests.training.driver import distill, teacher_run, train
from tests.training.test_distillation import weights, with_training


@pytest.mark.parametrize(
    ("values", "patience", "stops"),
    [
        ([0.1, 0.2, 0.3], 1, False),
        ([0.3, 0.2], 1, True),
        ([0.3, 0.3], 1, True),  # equal is no better
        ([0.3, 0.2, 0.31], 2, False),
        ([0.3, 0.2, 0.1], 2, True),
        ([0.3, 0.2, 0.1], None, False),
        ([0.3], 1, False),
        ([], 1, False),
    ],
)
def test_patience(values, patience, stops):
    history = [row for value in values for row in ({"loss": 1.0}, {"eval_x": value})]
    assert exhausted(history, "eval_x", patience) is stops


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations that give these values in turn; keeps the weights that each was asked about."""

    def script(values: list[float]) -> list[dict[str, torch.Tensor]]:
        seen: list[dict[str, torch.Tensor]] = []

        def measured(student, *_):
            seen.append({name: weight.clone() for name, weight in student.state_dict().items()})
            value = values[len(seen) - 1]
            return {"eval_nDCG@10": value, "eval_low": value, "eval_high": value, "eval_queries": 6}

        monkeypatch.setattr(dev_retrieval, "measure", measured)
        return seen

    return script


def same(folder: Path, state: dict[str, torch.Tensor]) -> bool:
    found = weights(folder)
    names = {name: next(own for own in state if own.endswith(f".{name}")) for name in found}
    return all(torch.equal(found[name], state[own]) for name, own in names.items())


@pytest.mark.parametrize("ema", [None, 0.5])
def test_the_best_evaluations_weights_are_kept(tiny_recipe, tmp_path, scripted, ema):
    seen = scripted([0.3, 0.5, 0.4, 0.5, 0.2])
    values = with_training(tiny_recipe, steps=9, evaluate_steps=2, save_steps=3, ema=ema)
    counts = distill(values, tmp_path / "student")
    assert counts["kept_step"] == 4 and counts["steps"] == 9  # of equals the earlier
    assert [same(tmp_path / "student", state) for state in seen] == [False, True, False, False, False]
    log = json.loads((tmp_path / "student" / "training_log.json").read_text())
    assert [row["step"] for row in log] == [2, 3, 4, 5, 6, 8, 9]
    assert {row["step"]: row["eval_nDCG@10"] for row in log if "eval_queries" in row} == dict(
        zip([2, 4, 6, 8, 9], [0.3, 0.5, 0.4, 0.5, 0.2], strict=True)
    )
    assert [row["step"] for row in log if row.get("kept")] == [4]
    assert all("loss" in row for row in log)


def test_it_stops_when_nothing_gets_better(tiny_recipe, tmp_path, scripted):
    scripted([0.3, 0.5, 0.5, 0.4, 0.9])
    values = with_training(tiny_recipe, steps=12, evaluate_steps=2, patience=2)
    counts = distill(values, tmp_path / "student")
    assert (counts["steps"], counts["kept_step"], counts["queries"]) == (8, 4, 64)


def test_killed_after_it_stopped_it_stays_stopped(tiny_recipe, tmp_path, scripted, monkeypatch):
    values = with_training(tiny_recipe, steps=12, evaluate_steps=2, patience=1)
    scripted([0.3, 0.5, 0.5, 0.9])
    whole = distill(values, tmp_path / "whole")
    scripted([0.3, 0.5, 0.5, 0.9])
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(distillation.training_log, "rows", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        distill(values, tmp_path / "killed")
    scripted([])
    again = distill(values, tmp_path / "killed")
    assert again == whole
    assert (whole["steps"], whole["kept_step"]) == (6, 4)
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_evaluations_change_nothing_else(tiny_recipe, tmp_path):
    """Dropout on, so that random numbers that an evaluation took would show."""
    values = with_training(tiny_recipe, steps=6, dropout=0.1, learning_rate=1e-3)
    plain = train(values, tmp_path / "plain")
    evaluated = train(with_training(values, evaluate_steps=1), tmp_path / "evaluated")
    assert len(evaluated) == 6
    last = {row["step"]: row for row in evaluated}
    for row in plain:
        assert row["grad_norm"] == last[row["step"]]["grad_norm"]
        assert row["learning_rate"] == last[row["step"]]["learning_rate"]
    assert {"agreement_kl", "agreement_spearman", "agreement_top1", "agreement_top3"} < evaluated[0].keys()


def test_the_average_by_hand(tiny_recipe, tmp_path, monkeypatch):
    """The first step's weights, then ``0.7 * average + 0.3 * weights``, in float64."""
    steps = []
    real = checkpoints.Advance.on_step_end

    def keep(self, args, state, control, model, **rest):
        steps.append({name: weight.double().clone() for name, weight in model.student.state_dict().items()})
        real(self, args, state, control, **rest)

    monkeypatch.setattr(checkpoints.Advance, "on_step_end", keep)
    train(with_training(tiny_recipe, steps=5, ema=0.7, learning_rate=1e-3), tmp_path / "student")
    average = steps[0]
    for step in steps[1:]:
        average = {name: 0.7 * weight + 0.3 * step[name] for name, weight in average.items()}
    found = weights(tmp_path / "student")
    moved = 0.0
    for name, weight in found.items():
        own = next(other for other in average if other.endswith(f".{name}"))
        torch.testing.assert_close(weight.double(), average[own], atol=1e-7, rtol=1e-5)
        moved = max(moved, float((average[own] - steps[-1][own]).abs().max()))
    assert moved > 1e-4


def test_agreement_at_the_start_and_in_the_end(tiny_recipe, tmp_path):
    values = {
        **with_training(tiny_recipe, steps=24, learning_rate=2e-3, agreement_queries=24),
        "objectives": {"listwise_kl": 1.0},
    }
    found = distill(values, tmp_path / "student")["agreement"]
    assert found["end"]["agreement_kl"] < 0.7 * found["start"]["agreement_kl"]
    assert found["end"]["agreement_spearman"] > found["start"]["agreement_spearman"] + 0.1
    log = json.loads((tmp_path / "student" / "training_log.json").read_text())
    assert {key: log[-1][key] for key in found["end"]} == found["end"]
    off = distill(with_training(values, steps=1, agreement_queries=0), tmp_path / "off")["agreement"]
    assert off == {"start": {}, "end": {}}


def test_evaluation_needs_dev_queries(tiny_recipe, dataset, tmp_path):
    recipe = parse_recipe(with_training(tiny_recipe, evaluate_steps=2))
    with pytest.raises(UserError, match=r"training\.evaluate_steps needs dev queries"):
        api.distill(teacher_run(dataset), dataset, split="train", recipe=recipe, out=tmp_path / "student")
    with pytest.raises(UserError, match=r"training: patience needs evaluate_steps, such as evaluate_steps=25$"):
        parse_recipe(with_training(tiny_recipe, patience=2))


def test_the_stage_knows_what_it_was_evaluated_on(tiny_recipe, dataset, tmp_path, monkeypatch):
    """Other dev queries, another measure: another student. Another tracker: the same."""
    monkeypatch.setattr(distillation, "trackers", lambda *_: [])
    run = teacher_run(dataset)
    values = with_training(tiny_recipe, steps=1, evaluate_steps=1, dev_documents=20, agreement_queries=0)
    asked = Run.from_dict({query: {"d1": 1.0} for query in dataset.qrels("dev")})

    def skipped(dev: Run, **changes) -> bool:
        recipe = parse_recipe({**values, **changes})
        return api.distill(
            run, dataset, split="train", recipe=recipe, out=tmp_path / "student", dev=(dev, "dev")
        ).manifest["skipped"]

    assert not skipped(asked)
    assert skipped(asked)
    assert skipped(asked, training={**values["training"], "report_to": ["wandb"]})
    assert not skipped(asked, evaluate={"measures": ["RR@10"]})
    assert not skipped(asked.select(asked.query_ids[:3]), evaluate={"measures": ["RR@10"]})
    log = json.loads((tmp_path / "student" / "training_log.json").read_text())
    assert log[0]["eval_queries"] == 3 and 0 <= log[0]["eval_low"] <= log[0]["eval_RR@10"] <= log[0]["eval_high"]
