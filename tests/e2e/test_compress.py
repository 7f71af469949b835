"""Compression as a stage of a run and as a command."""

from __future__ import annotations

import pytest
from sentence_transformers import SentenceTransformer

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.pipeline import students
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.student import layers
from tests.commands import command

QUICK = {"steps": 2, "tokens_per_step": 256, "max_length": 32, "bf16": False, "transfers": {"relations": 1.0}}


def depth(folder) -> int:
    return layers.count(SentenceTransformer(str(folder), device="cpu"))


def test_a_chain_before_distillation(tiny_recipe, tmp_path):
    steps = [{"layers": "first:3", **QUICK}, {"layers": "spaced:2", **QUICK}]
    recipe = parse_recipe({**tiny_recipe, "compress": steps, "training": {**tiny_recipe["training"], "steps": 2}})
    report = pipeline.run(recipe, out=tmp_path / "run").details
    out = tmp_path / "run"
    assert [depth(out / name) for name in ("compressed-1", "compressed-2", "student")] == [3, 2, 2]
    stages = list(report["stages"])
    assert stages.index("compressed-1") < stages.index("compressed-2") < stages.index("distill")
    card = (out / "student" / "README.md").read_text()
    assert "; compressed on the documents' plain text (layers spaced:2, transfers `relations`)" in card
    job = open_job(recipe, out)
    students.compress(job)
    assert [job.manifests[name]["skipped"] for name in ("compressed-1", "compressed-2")] == [True, True]
    second = job.manifests["compressed-2"]["inputs"]
    assert list(second["models"]) == [str(out / "compressed-1")]  # which it starts from, and is taught by


def test_without_the_section_nothing_changes(tiny_recipe, tmp_path):
    job = open_job(parse_recipe(tiny_recipe), tmp_path)
    students.compress(job)
    assert job.manifests == {}
    assert job.student_recipe == job.recipe
    assert not any(tmp_path.iterdir())


def test_the_command(dataset_folder, encoders, tmp_path):
    options = [f"--set={key}={value}" for key, value in (("layers", "first:2"), ("steps", 2), ("tokens_per_step", 256))]
    arguments = [
        "compress",
        "--dataset",
        dataset_folder,
        "--model",
        encoders["bert"],
        "--cache",
        str(tmp_path / "cache"),
    ]
    text = command(*arguments, "--out", str(tmp_path / "small"), *options)
    assert "2 layers of width 32" in text
    assert depth(tmp_path / "small") == 2


@pytest.mark.parametrize("option", ["layerz=3", "transfers.relations=-1"])
def test_a_mistake_on_the_command_line(option, dataset_folder, encoders, tmp_path):
    arguments = ["--dataset", dataset_folder, "--model", encoders["bert"], "--cache", str(tmp_path / "cache")]
    text = command("compress", *arguments, "--out", str(tmp_path / "small"), f"--set={option}", code=2)
    assert option.partition("=")[0].rpartition(".")[2] in text
