"""What the README tells a reader to type works."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from retrieval_distill.config import parse_recipe
from retrieval_distill.models import STARTER_FOLDER
from retrieval_distill.teacher import load
from retrieval_distill.training.asked import asked
from tests.commands import command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip()]


def test_the_two_commands_are_make_targets():
    makefile = (ROOT / "Makefile").read_text()
    targets = [words[1] for words in commands() if words[0] == "make"]
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.M)
    assert "make test" in (ROOT / ".ci" / "run").read_text()


def test_the_stages_one_by_one(tmp_path, cross_encoders, tiny_recipe, monkeypatch):
    """Every `retrieval-distill` line runs, on the sample data, with tiny models where the line names a hub's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-folder").symlink_to(ROOT / "data" / "sample")
    small = [
        "--set",
        "training.steps=2",
        "--set",
        "training.queries_per_step=4",
        "--set",
        f"student.model={tiny_recipe['student']['model']}",
    ]
    ran = []
    for words in commands():
        if words[0] != "retrieval-distill":
            continue
        words = [w.replace("cross-encoder/ms-marco-MiniLM-L6-v2", cross_encoders["bert"]) for w in words[1:]]
        words = [cross_encoders["bert"] if w == "starter" else w for w in words]
        if words[0] in ("run", "distill"):
            words += small
        if words[0] == "fit-teacher":
            words += ["--set", "steps=2", "--set", "queries_per_step=2", "--set", "max_length=48"]
        command(*words)
        ran.append(words[0])
    stages = ["run", "retrieve", "score", "distill", "embed", "index", "retrieve", "rerank", "evaluate"]
    stages += ["benchmark", "report"]
    assert ran == [*stages, "scores", "scores", "fit-teacher", "rerank"]


def test_the_yaml_blocks_are_recipes():
    ensemble, training = (parse_recipe({"name": "readme", **yaml.safe_load(block)}) for block in blocks("yaml"))
    assert [load.split(member.model)[0] for member in ensemble.teacher.members] == ["cross-encoder", "bi-encoder"]
    mix, views = asked(training)
    assert set(mix.parts) == {"in_batch", "listwise_kl", "margin_mse"}
    assert [view.name for view in views] == ["full", "64", "int8"]


@pytest.mark.skipif(not STARTER_FOLDER.is_dir(), reason="the starter teacher is not in this checkout")
def test_the_python_blocks(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks("python"))], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "(384,)" in done.stdout


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
