"""The command line: every verb once, and mistakes end with one clear line and exit code 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.commands import command, program


def test_help_names_every_verb_and_loads_nothing_heavy():
    text = program("--help")
    verbs = (
        "run demo convert prepare generate mine filter-negatives retrieve score compress distill embed export index search "
        "rerank evaluate benchmark report"
    )
    for verb in verbs.split():
        assert re.search(rf"\b{verb}\b", text)
        assert "Example:" in command(verb, "--help")
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, retrieval_distill.cli; print(*sys.modules)"], capture_output=True, text=True
    ).stdout.split()
    assert not {"torch", "transformers", "pandas", "faiss", "numpy"} & set(loaded)


def test_the_verbs_one_by_one(dataset_folder, cross_encoders, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe))
    data = ("--dataset", dataset_folder)
    teacher = ("--teacher", cross_encoders["bert"], "--store", "scores")
    command("retrieve", *data, "--split", "train", "--depth", 8, "--out", "train.parquet")
    assert "scored 0 pairs" not in command("score", "train.parquet", *data, *teacher, "--out", "scored.parquet")
    assert "scored 0 pairs" in command("score", "train.parquet", *data, *teacher, "--out", "scored.parquet")
    command("distill", "scored.parquet", *data, "--recipe", recipe, "--set", "training.steps=3", "--out", "student")
    command("embed", "--model", "student", *data, "--out", "vectors")
    command("index", "vectors", "--out", "index")
    command("retrieve", *data, "--model", "student", "--index", "index", "--out", "fused.trec", "--depth", 20)
    command("rerank", "fused.trec", *data, *teacher, "--depth", 5, "--out", "reranked.trec")
    text = command("evaluate", "fused.trec", "reranked.trec", *data, "--measure", "nDCG@10", "--json", "numbers.json")
    assert "fused" in text and "p = " in text
    numbers = json.loads(Path("numbers.json").read_text())
    assert 0 < numbers["fused"]["nDCG@10"]["mean"] <= 1
    command("run", recipe, "--out", "whole")
    assert "whole/report.html: open it in a browser" in command("report", "whole")
    assert json.loads(Path("whole/search/fusion.json").read_text())["split"] == "dev"  # decided before the first search
    found = command("search", "whole", "path file root", "--depth", 3)
    assert re.search(r"1\. title \w+  d\d+  -?\d\.\d{3}", found)


def test_convert_and_prepare(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("docs.csv").write_text("doc_id,body\na,first  text\nb,first text\nc\nd,second text\n")
    Path("asked.csv").write_text("id,text\nq,what is first\n")
    Path("judged.tsv").write_text("q\tb\t1\n")
    source = ("docs.csv", "--columns", "id=doc_id,text=body", "--cache", "cache")
    beside = ("--queries", "asked.csv", "--qrels", "test=judged.tsv")
    assert "docs.csv:4: 1 field, but the header has 2" in command("convert", *source, "x", "--to", "beir", code=2)
    assert not Path("x").exists()
    text = command("convert", *source, "folder", "--to", "parquet", "--on-bad", "skip", *beside)
    assert "1 left out: ragged row; first docs.csv:4" in text and "3 documents, 1 query" in text
    Path("options.yaml").write_text("duplicates: exact\n")
    text = command("prepare", "folder", "--out", "clean", "--options", "options.yaml", "--cache", "cache")
    assert "duplicates: 1 x exact copy: merged; first b into a" in text
    assert Path("clean/qrels/test.tsv").read_text().splitlines()[1:] == ["q\ta\t1"]
    assert "option" in command("prepare", "folder", "--out", "other", "--on-bad", "guess", code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "/no/such", "x", "--to", "beir"], "no such folder or file"),
        (["convert", "/no/such", "x", "--to", "beir", "--columns", "id"], "write it as NAME=VALUE"),
        (["run", "nowhere.yaml", "--out", "x"], "no such recipe file"),
        (["run", "demo", "--out", "x", "--set", "training.stepz=3"], "did you mean 'steps'"),
        (["run", "demo", "--out", "x", "--set", "trainig.steps=3"], "did you mean 'training'"),
        (["run", "demo", "--out", "x", "--set", "training.steps=many"], "training.steps"),
        (["run", "demo", "--out", "x", "--set", "training"], "key=value"),
        (["run", "demo", "--out", "x", "--set", "dataset.source=/no/such"], "no such folder"),
        (["search", "nowhere", "text"], "no finished run there"),
        (["report", "nowhere"], "no run there"),
        (["retrieve", "--dataset", "/no/such", "--out", "x.trec"], "no such folder"),
        (["benchmark", "--on", "/no/such", "--out", "x", "--run", "mine"], "--run mine: write it as NAME=FILE"),
        (["evaluate", "a/same.trec", "b/same.trec", "--dataset", "/no/such"], "two run files have the same name"),
        (["evaluate", "missing.trec", "--dataset", "/no/such"], "missing.trec: no such run file"),
        (
            ["retrieve", "--dataset", "/no/such", "--out", "x.trec", "--model", "m"],
            "--model and --index belong together",
        ),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in command(*arguments, code=2)
    assert list(tmp_path.iterdir()) == []  # nothing half-written


def test_a_mistake_ends_the_program_with_one_message(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert program("run", "nowhere.yaml", "--out", "x", code=2).startswith("error: nowhere.yaml: no such recipe file")


def test_a_model_that_is_not_to_be_had(dataset_folder, tmp_path):
    text = command("embed", "--model", "nobody/nothing", "--dataset", dataset_folder, "--out", tmp_path / "v", code=2)
    assert "packaged:all-MiniLM-L6-v2" in text and "HF_HUB_OFFLINE=1" in text
