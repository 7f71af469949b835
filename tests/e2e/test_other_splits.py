"""Splits measured beside the test split: questions as people ask them, on which nothing rests."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import holm, paired_p
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.runtime.stages import read_json

ASKED = {f"ask{i}": {f"d{i}": 2, f"d{i + 1}": 1} for i in range(9)}
"""Nine questions, each with a best and another answer."""


@pytest.fixture(scope="module")
def asked(dataset, tmp_path_factory) -> tuple[str, Dataset]:
    """The tiny dataset with questions; the first of them asks what a training query asks."""
    words = {id_: dataset.documents[f"d{number}"].split() for number, id_ in enumerate(ASKED)}
    records = [(id_, "", f"how {words[id_][-1]} {words[id_][3]}") for id_ in ASKED]
    records[0] = ("ask0", "", dataset.queries["q0"])
    made = dataset.replace(
        queries=Texts.from_records([*dataset.queries.records(), *records]),
        qrels={**dataset.qrels, "questions": ASKED},
    )
    folder = tmp_path_factory.mktemp("asked") / "asked"
    beir.save(made, folder)
    return str(folder), made


@pytest.fixture(scope="module")
def recipe(tiny_recipe, asked) -> dict:
    training = {"steps": 4, "queries_per_step": 8, "candidates": 3, "bf16": False}
    return {**tiny_recipe, "dataset": {"source": asked[0]}, "training": training}


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("runs") / "beside"
    return out, pipeline.run(parse_recipe(recipe), out=out).details


def test_every_system_is_measured_on_the_questions_too(finished, asked):
    out, report = finished
    (found,) = report["also"].values()
    assert found["queries"] == len(ASKED)
    assert found["measures"] == ["Success@5", *report["recipe"]["evaluate"]["measures"]]
    assert list(found["systems"]) == list(report["systems"])
    for name, system in found["systems"].items():
        run = Run.load(out / "runs-questions" / f"{name}.parquet")
        values = evaluate(run, ASKED, found["measures"])
        for measure in found["measures"]:
            assert system[measure]["mean"] == pytest.approx(values[measure].mean())
            assert system[measure]["low"] <= system[measure]["mean"] <= system[measure]["high"]


def test_its_p_values_are_recomputed_from_the_values_by_query(finished):
    out, report = finished
    values = pd.read_parquet(out / "per_query-questions.parquet")
    by_system = values.pivot(index="query_id", columns="system", values="Success@5")
    names = list(report["also"]["questions"]["systems"])
    p = holm({(a, b): paired_p(by_system[a].to_numpy(), by_system[b].to_numpy())
              for i, a in enumerate(names) for b in names[i + 1 :]})  # fmt: skip
    told = report["also"]["questions"]["systems"]["hybrid-student"]["Success@5"]["p_holm_vs"]
    assert told["hybrid-start"] == pytest.approx(p["hybrid-start", "hybrid-student"])


def test_they_stand_in_every_form_of_the_report(finished):
    out, report = finished
    mean = report["also"]["questions"]["systems"]["hybrid-student"]["Success@5"]["mean"]
    for name, told in (("report.txt", "questions, 9 queries"), ("report.md", "9 queries of the split `questions`"),
                       ("report.html", "Beside the test split: questions"), ("student/README.md", "`questions`")):  # fmt: skip
        text = (out / name).read_text()
        assert told in text and f"{mean:.3f}" in text
        assert "Success@5: hybrid-student less hybrid-start is" in text.replace("\\", "")


def test_nothing_is_trained_tuned_or_said_on_them(finished, recipe):
    out, report = finished
    trained = Run.load(out / "teacher-scores" / "run.parquet").frame["query_id"]
    assert not set(trained) & set(ASKED)
    assert report["systems"]["hybrid-student"]["fusion"]["split"] == "dev"
    without = {**recipe, "evaluate": {**recipe["evaluate"], "also": []}}
    again = pipeline.run(parse_recipe(without), out=out).details
    assert again["also"] == {} and "search-questions" not in again["stages"]
    for part in ("systems", "distillation", "minimum_detectable", "fidelity"):
        assert again[part] == report[part]
    assert "questions, 9 queries" not in (out / "report.txt").read_text()
    kept = pipeline.run(parse_recipe(recipe), out=out).details
    assert kept["stages"]["search-questions"]["skipped"] and kept["also"] == report["also"]


def test_a_report_from_before_is_read(finished, tmp_path):
    from retrieval_distill.reporting.findings import collect
    from retrieval_distill.reporting.report_file import RunReport

    out, _ = finished
    run = RunFolder.open(out)
    old = {key: value for key, value in read_json(out / "report.json").items() if key != "also"}
    run.__dict__["report"] = RunReport.model_validate(old)
    assert collect(run).other_splits == []


@pytest.mark.parametrize(
    ("also", "told"),
    [(["asked"], "no split 'asked'; it has"), (["dev"], "evaluate.also=dev"), (["test"], "evaluate.also=test")],
)
def test_a_split_that_is_not_there_or_has_a_part_already_is_refused(recipe, tmp_path, also, told):
    values = {**recipe, "evaluate": {**recipe["evaluate"], "also": also}}
    with pytest.raises(UserError, match=told):
        pipeline.run(parse_recipe(values), out=tmp_path / "run")
    assert not (tmp_path / "run" / "embeddings-start").exists()


def test_questions_that_are_the_test_split_are_measured_once(recipe, tmp_path):
    job = pipeline.open_job(parse_recipe({**recipe, "dataset": {**recipe["dataset"], "test": "questions"}}), tmp_path)
    assert job.measurable and job.also == ()


def test_of_several_datasets_those_that_have_it(tiny_recipe, asked, dataset_folder, tmp_path):
    values = {key: value for key, value in tiny_recipe.items() if key != "dataset"}
    sources = {"with": {"source": asked[0], "dev": "dev"}, "without": {"source": dataset_folder}}
    job = pipeline.open_job(parse_recipe({**values, "datasets": sources}), tmp_path)
    assert job.also == ("questions",)
    assert job.dataset.qrels["questions"]["with/ask1"] == {"with/d1": 2, "with/d2": 1}
    assert len(job.dataset.qrels["questions"]) == len(ASKED)


def test_cleaning_and_generating_keep_training_free_of_them(recipe, asked, tmp_path):
    from retrieval_distill import api
    from retrieval_distill.config import GenerateConfig

    job = pipeline.open_job(parse_recipe({**recipe, "prepare": {}}), tmp_path)
    assert "q0" not in job.dataset.qrels["train"] and "q1" in job.dataset.qrels["train"]
    assert "q0" not in api.prepare(asked[1], out=tmp_path / "clean").qrels["train"]
    assert "questions" in GenerateConfig().held_out
