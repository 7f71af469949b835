"""The student's model card: a header that the hub reads, and only what was measured below it."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from huggingface_hub import ModelCard

from retrieval_distill.reporting import card
from retrieval_distill.reporting.publish import report
from retrieval_distill.runtime.stages import fingerprint_files


@pytest.fixture
def text(run_folder) -> str:
    report(run_folder)
    return (run_folder / "student" / "README.md").read_text(encoding="utf-8")


def test_the_hub_reads_the_header(text, finished):
    header = ModelCard(text).data
    assert header.library_name == "sentence-transformers" and header.pipeline_tag == "sentence-similarity"
    assert header.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    results = {result.metric_name: result for result in header.eval_results}
    assert list(results) == ["RR@10", "nDCG@10"]
    for measure, result in results.items():
        assert result.metric_value == round(finished["systems"]["student"][measure]["mean"], 4)
        assert (result.dataset_name, result.dataset_split) == ("tiny", "test")
    raw = yaml.safe_load(text.split("---")[1])
    assert not {"license", "language", "datasets"} & set(raw)  # nobody told us


def test_the_card_says_what_the_recipe_and_the_report_say(text, finished):
    assert text.count("\n# ") == 1
    said = {
        "Teacher": "cross-encoder/some-teacher (512 tokens)",
        "Start": "packaged:all-MiniLM-L6-v2",
        "Data": "tiny, split `train`: 4 queries",
        "Mining": "30 documents each",
        "Objectives": "`margin_mse` (weight 0.05)",
        "Training": "15 steps of 32 queries with 6 candidates each, learning rate 5e-05",
    }
    for what, words in said.items():
        assert re.search(rf"\* \*\*{what}:\*\* .*{re.escape(words)}", text), what
    value = finished["systems"]["student"]["RR@10"]
    assert f"{value['mean']:.3f}<sup>bs</sup> ({value['low']:.3f}\u2013{value['high']:.3f})" in text
    assert "cpu A Processor, threads 2." in text
    assert "<script" not in text


def test_its_code_is_python_and_loads_this_folder(text):
    [block] = re.findall(r"```python\n(.*?)```", text, re.S)
    compile(block, "card", "exec")
    assert "SentenceTransformer(" in block


def test_writing_it_leaves_the_models_fingerprint_alone(run_folder):
    before = fingerprint_files(run_folder / "student")
    report(run_folder)
    report(run_folder)
    assert fingerprint_files(run_folder / "student") == before


def test_only_the_hubs_names_become_links():
    assert card.hub_id("distilbert/distilbert-base-uncased") == "distilbert/distilbert-base-uncased"
    assert [card.hub_id(name) for name in ("/models/mine", "./mine", "../a/b", "a/b/c", "mine")] == [None] * 5


def test_an_unfinished_run_has_no_card(run_folder):
    (run_folder / "report.json").unlink()
    report(run_folder)
    assert not (run_folder / "student" / "README.md").exists()


def test_recipes_of_several_teachers_name_them_all(run_folder, finished):
    member = {**finished["recipe"]["teacher"], "model": "org/second", "max_length": 64}
    finished["recipe"]["teacher"]["ensemble"] = [{**member, "model": "org/first"}, member]
    finished["recipe"]["objectives"] = {"listwise_kl": {"weight": 1.0, "teacher_temperature": 2.0}}
    for name, values in (("report.json", finished), ("recipe.json", finished["recipe"])):
        (run_folder / name).write_text(json.dumps(values))
    report(run_folder)
    text = (run_folder / "student" / "README.md").read_text()
    assert "**Teacher:** org/first (64 tokens) + org/second (64 tokens)" in text
    assert "`listwise_kl` (weight 1.0, teacher_temperature 2.0)" in text
