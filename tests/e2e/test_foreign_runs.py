"""A run that names a text which the dataset lacks is refused by every verb that needs the text, before any work."""

from __future__ import annotations

import pytest

from retrieval_distill import api
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from tests.commands import command

SCORES = {"q0": {"d0": 2.0, "gone-1": 1.0, "gone-2": 0.5}, "q1": {"d1": 1.0, "d2": 0.5}}
SAID = "names 2 document ids that the dataset does not have: 'gone-1', 'gone-2'; use the dataset that it was made from"


@pytest.fixture
def run_file(tmp_path):
    Run.from_dict(SCORES).save(tmp_path / "foreign.trec")
    return tmp_path / "foreign.trec"


@pytest.mark.parametrize("verb", ["distill", "score", "rerank"])
def test_a_document_that_the_dataset_lacks(verb, run_file, dataset_folder, cross_encoders, tmp_path):
    data = ("--dataset", dataset_folder, "--out", tmp_path / "out.trec")
    teacher = () if verb == "distill" else ("--teacher", cross_encoders["bert"], "--store", tmp_path / "scores")
    assert f"error: the run {SAID}" in command(verb, run_file, *data, *teacher, code=2)
    assert not (tmp_path / "out.trec").exists()


def test_a_document_that_the_dataset_lacks_in_the_scores_of_a_training_table(run_file, dataset_folder, tmp_path):
    table = ("convert", dataset_folder, tmp_path / "out.jsonl", "--to", "sentence-transformers", "--scores", run_file)
    assert f"error: the run of scores {SAID}" in command(*table, "--negatives", 1, code=2)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_query_that_the_dataset_lacks(dataset_folder, tmp_path):
    Run.from_dict({**SCORES, "gone": {"d1": 1.0}}).save(tmp_path / "foreign.trec")
    said = command("distill", tmp_path / "foreign.trec", "--dataset", dataset_folder, "--out", tmp_path / "x", code=2)
    assert "the run names 1 query id that the dataset does not have: 'gone'" in said


def test_dev_queries_of_another_dataset(dataset, tiny_recipe, tmp_path):
    recipe = parse_recipe(tiny_recipe)
    scored = Run.from_dict({"q0": {"d0": 2.0, "d1": 1.0}})
    dev = {"q24": {"d24": 1.0, "gone-1": 0.5, "gone-2": 0.25}, "q0": {"d0": 1.0}}
    with pytest.raises(UserError, match=f"the run of dev queries {SAID}"):
        api.distill(scored, dataset, split="train", recipe=recipe, out=tmp_path / "x", dev=(Run.from_dict(dev), "dev"))
    with pytest.raises(UserError, match="answers none of the 6 judged queries"):
        api.distill(scored, dataset, split="train", recipe=recipe, out=tmp_path / "x", dev=(scored, "dev"))


def test_evaluation_keeps_the_ranks_and_says_so(dataset_folder, tmp_path):
    scores = {f"q{row}": {"gone": 2.0, f"d{row}": 1.0} for row in range(30, 40)}
    Run.from_dict(scores).save(tmp_path / "mine.trec")
    data = ("--dataset", dataset_folder, "--measure", "RR@10")
    said = command("evaluate", tmp_path / "mine.trec", *data)
    assert "1 document is not in the corpus: ranks are kept (first 'gone')" in said and "0.500" in said
    Run.from_dict({query: {"gone": 1.0} for query in scores}).save(tmp_path / "mine.trec")
    assert "names no document of the corpus, first 'gone'" in command("evaluate", tmp_path / "mine.trec", *data, code=2)


def test_missing_scores_reach_the_training_through_a_file(dataset_folder, encoders, tmp_path):
    Run.from_dict({"q0": {"d0": 2.0, "d1": float("nan")}}).save(tmp_path / "scored.parquet")
    data = ("--dataset", dataset_folder, "--out", tmp_path / "x", "--set", f"student.model={encoders['bert']}")
    said = command("distill", tmp_path / "scored.parquet", *data, code=2)
    assert "1 of 2 candidates have no teacher score (query/document: q0/d1)" in said
