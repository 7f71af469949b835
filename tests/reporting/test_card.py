"""The student's model card: a header that the hub reads, and only what was measured below it."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import yaml
from huggingface_hub import ModelCard

from retrieval_distill import api
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.reporting.publish import report
from retrieval_distill.runtime.stages import fingerprint_files, write_json
from retrieval_distill.student import card


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
    assert header.license == "apache-2.0"  # the start model's own card says so
    raw = yaml.safe_load(text.split("---")[1])
    assert not {"language", "datasets"} & set(raw)  # nobody told us


def test_the_card_says_what_the_recipe_and_the_report_say(text, finished):
    assert text.count("\n# ") == 1
    said = {
        "Teacher": "cross-encoder/some-teacher (512 tokens)",
        "Start": "packaged:all-MiniLM-L6-v2",
        "Data": "tiny, split `train`: 4 queries",
        "Mining": "`bm25`, `start`, 30 documents each",
        "Objectives": "`margin_mse` (weight 0.05)",
        "Training": "15 steps of 32 queries with 6 candidates each, learning rate 5e-05",
    }
    for what, words in said.items():
        assert re.search(rf"\* \*\*{what}:\*\* .*{re.escape(words)}", text), what
    value = finished["systems"]["student"]["RR@10"]
    assert f"{value['mean']:.3f}<sup>b, s</sup> ({value['low']:.3f}\u2013{value['high']:.3f})" in text
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


def test_a_student_alone_has_a_card_of_its_own(tmp_path, encoders, dataset):
    """What the start model's card says of its own training and use is not said of the student."""
    start = tmp_path / "start"
    shutil.copytree(encoders["distilbert"], start)
    (start / "README.md").write_text(
        "---\nbase_model: org/grandparent\nlicense: mit\ntags:\n- theirs\n---\n# Trained on secret data\n"
    )
    recipe = parse_recipe(
        {
            "name": "mine",
            "student": {"model": str(start), "max_length": 48, "query_prompt": "query: "},
            "objectives": {"margin_mse": 0.05},
            "training": {"steps": 1, "queries_per_step": 4, "candidates": 2, "bf16": False},
        }
    )
    queries = dataset.queries("train")
    scored = Run.from_dict({query: {f"d{i}": float(i) for i in range(4)} | {f"d{query[1:]}": 9.0} for query in queries})
    api.distill(scored, dataset, split="train", recipe=recipe, out=tmp_path / "student")
    text = (tmp_path / "student" / "README.md").read_text()
    header = ModelCard(text).data
    assert (header.base_model, header.license, header.eval_results) == ("org/grandparent", "mit", None)
    assert "secret" not in text and "theirs" not in header.tags
    assert "Not measured" in text and "split `train`: 24 queries" in text and "`margin_mse` (weight 0.05)" in text
    assert '`encode_query` puts `"query: "` before each text' in text and "encode_document` puts" not in text
    assert "whose licence is mit" in text
    assert yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.S).group(1))["objectives"] == {"margin_mse": 0.05}


def test_a_licence_that_nobody_told_is_called_unknown(tmp_path, encoders):
    recipe = {"student": {"model": encoders["bert"]}}
    assert "license" not in card.header(recipe, "x").to_dict()
    assert "whose licence is unknown here: look it up" in card.limits(recipe)
    folders = []
    for name, licence in (("a", "mit"), ("b", "apache-2.0")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(f"---\nlicense: {licence}\n---\n")
        folders.append(str(tmp_path / name))
    assert card.licence(folders[:1]) == {"license": "mit"} and card.licence(folders) == {}  # one key cannot say two
    (tmp_path / "a" / "README.md").write_text("---\n: [\n---\n")
    assert card.licence(folders[:1]) == {}


def test_a_run_that_measured_nothing_has_its_own_card_too(run_folder):
    recipe = json.loads((run_folder / "recipe.json").read_text())
    write_json(run_folder / "unmeasured.json", {"unmeasured": "No split is judged.", "recipe": recipe})
    (run_folder / "report.json").unlink()
    (run_folder / "student" / "README.md").write_text("---\ntags: [theirs]\n---\n# Another model")
    report(run_folder)
    text = (run_folder / "student" / "README.md").read_text()
    assert "Not measured. No split is judged." in text and "Another model" not in text
    assert "* **Teacher:** cross-encoder/some-teacher" in text and "## Results" not in text


EVIL_NAME = "a: b\n---\n# `x` ```\x1b[31m"


def test_no_name_breaks_the_header_or_the_text(run_folder, finished):
    finished["recipe"]["name"] = finished["dataset"]["name"] = EVIL_NAME
    finished["recipe"]["dataset"]["train"] = "tr`ain"
    for name, values in (("report.json", finished), ("recipe.json", finished["recipe"])):
        (run_folder / name).write_text(json.dumps(values))
    report(run_folder)
    text = (run_folder / "student" / "README.md").read_text()
    header = ModelCard(text).data
    assert header.eval_results[0].dataset_name == EVIL_NAME and header.library_name == "sentence-transformers"
    assert len(re.findall("^# ", text, re.M)) == 1 and "\x1b" not in text
    assert "split ``tr`ain``" in text
    [(_, recipe)] = re.findall(r"^(`{4,})yaml\n(.*?)^\1$", text, re.S | re.M)
    assert yaml.safe_load(recipe) == finished["recipe"]


def test_a_compressed_encoder_has_a_card_of_its_own(encoders, dataset, tmp_path):
    options = {"model": encoders["bert"], "layers": "first:2", "steps": 1, "tokens_per_step": 256, "max_length": 16}
    api.compress(dataset.documents, out=tmp_path / "small", **options)
    text = (tmp_path / "small" / "README.md").read_text()
    assert "Not measured" in text and "layers first:2" in text and "SentenceTransformer(" in text
    assert ModelCard(text).data.library_name == "sentence-transformers"
