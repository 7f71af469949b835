"""What a run says beforehand of the time it takes."""

from __future__ import annotations

import logging
import shutil
from types import SimpleNamespace

import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.pipeline import forecast
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.runtime import progress


@pytest.fixture
def job(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "WORTHWHILE", 0.0)
    monkeypatch.setattr(forecast, "SECONDS", 0.05)
    return open_job(parse_recipe(tiny_recipe), tmp_path / "run")


def foreseen(job) -> dict[str, float]:
    acts = [*pipeline.learning(job), *pipeline.measuring(job)]
    return dict(zip([act.what for act in acts], forecast.forecast(job, acts), strict=True))


def test_what_takes_time_is_foreseen(job):
    found = foreseen(job)
    costly = {what for what, seconds in found.items() if seconds}
    assert {"vectors and index of the start model", "is the teacher better?", "the teacher's scores",
            "the student's training", "vectors and index of the student", "measures of every system"} <= costly  # fmt: skip
    assert found["the lists that teach"] == 0


def test_twice_the_steps_take_twice_the_time(job, tiny_recipe):
    load = forecast.Workload(job)
    once = load.training()
    training = {**tiny_recipe["training"], "steps": 2 * tiny_recipe["training"]["steps"]}
    job.recipe = parse_recipe({**tiny_recipe, "training": training})
    assert load.training() == pytest.approx(2 * once)


def test_what_is_done_is_not_foreseen(job, finished):
    shutil.copytree(finished[0], job.out)
    assert not any(foreseen(job).values())


def test_parameters_are_those_of_the_layers(encoders):
    from transformers import AutoModel

    model = AutoModel.from_pretrained(encoders["bert"])
    layers = sum(
        weight.numel() for name, weight in model.named_parameters() if "embed" not in name and weight.dim() == 2
    )
    assert forecast.parameters(str(encoders["bert"])) == layers > 0


def test_a_short_run_is_not_measured(tiny_recipe, tmp_path):
    job = open_job(parse_recipe(tiny_recipe), tmp_path / "run")
    assert not any(foreseen(job).values())


def test_the_pace_of_what_is_done_mends_what_is_ahead(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))  # not the clock of other threads
    caplog.set_level(logging.INFO, logger="retrieval_distill")
    with progress.whole_progress(["one", "two"], [10.0, 40.0]) as begin:
        begin(0)
        now[0] += 20  # twice as long as thought
        begin(1)
        with progress.progress("reading", 4, "page") as advance:
            now[0] += 20
            advance(1)
            now[0] += 60
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "about 50.0 s in all on this machine, as measured just now"
    assert [line for line in told if line.startswith("stage")] == ["stage 1 of 2: one", "stage 2 of 2: two"]
    assert any(line.endswith("1 min 00 s left; of the whole run about 1 min 00 s") for line in told)


def test_queries_that_are_still_to_be_made_are_foreseen(job, tiny_recipe):
    job.recipe = parse_recipe({**tiny_recipe, "generate": {}})
    load = forecast.Workload(job)
    everything = load.candidates()
    job.recipe = parse_recipe({**tiny_recipe, "generate": {"documents": len(job.dataset.documents) // 2}})
    assert 0 < load.candidates() == pytest.approx(everything / 2, rel=0.1)
