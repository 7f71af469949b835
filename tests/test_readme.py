"""What the README tells a reader to type works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from retrieval_distill.config import load_recipe, parse_recipe
from retrieval_distill.models import STARTER_FOLDER
from tests import programs
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


def test_your_corpus_in_three_commands(tmp_path, cross_encoders, tiny_recipe, monkeypatch):
    """Every `retrieval-distill` line runs, on the sample data, with tiny models where the line names a hub's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-folder").symlink_to(ROOT / "data" / "sample")
    tiny = {
        "cross-encoder/ettin-reranker-17m-v1": cross_encoders["bert"],
        "distilbert/distilbert-base-uncased": tiny_recipe["student"]["model"],
    }
    ran = []
    for words in commands():
        if words[0] != "retrieval-distill":
            continue
        for name, folder in tiny.items():
            words = [word.replace(name, folder) for word in words]
        if words[1] == "run":
            words += ["--set", "training.steps=2", "--set", "training.queries_per_step=4"]
        said = command(*words[1:])
        ran.append(words[1])
    assert ran == ["prepare", "run", "search"]
    assert "1. " in said and (tmp_path / "runs" / "mine" / "report.html").is_file()


def test_it_is_a_page():
    assert len(README.splitlines()) < 140


def test_the_lines_of_the_data_readme(tmp_path, cross_encoders, encoders, monkeypatch):
    """In its order, on the sample data and a few files of the names that it uses, with tiny models."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    (tmp_path / "docs.csv").write_text("doc_id,body\nd1,first text\nd2,second text\n")
    (tmp_path / "asked.csv").write_text("id,text\nq1,what is first\n")
    (tmp_path / "judged.tsv").write_text("q1\td1\t1\n")
    (tmp_path / "my-docs").mkdir()
    (tmp_path / "my-docs" / "a.txt").write_text("A path. " * 200)
    (tmp_path / "my-docs" / "empty.txt").write_text("")
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^    (retrieval-distill .*)$", text, re.M)
    tiny = {"starter": cross_encoders["bert"], "student=packaged:all-MiniLM-L6-v2": f"student={encoders['bert']}"}
    whole = [line for line in lines if line.split()[1] == "run"]  # a shipped recipe, which its own test runs
    for line in [line for line in lines if line not in whole]:
        command(*(tiny.get(word, word) for word in shlex.split(line)[1:]), "--cache", "cache")
    assert [load_recipe(line.split()[2]).name for line in whole] == ["gpl"]
    assert [line.split()[1] for line in lines].count("convert") == 6
    assert len((tmp_path / "clean" / "corpus.jsonl").read_text().splitlines()) > 1
    assert (tmp_path / "my-folder" / "qrels" / "test.tsv").read_text().splitlines()[1:] == ["q1\td1\t1"]
    again = {path.name for path in (tmp_path / "from-table").iterdir()}
    assert {"corpus.jsonl", "queries.jsonl", "qrels"} <= again and (tmp_path / "again.parquet").is_file()


def test_the_yaml_blocks_of_the_data_readme_are_recipes():
    text = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    one, several = (
        parse_recipe({"name": "readme", **yaml.safe_load(block)})
        for block in re.findall(r"```yaml\n(.*?)```", text, re.S)
    )
    assert one.prepare.segment and several.prepare is None
    assert [source.weight for source in several.datasets.values()] == [2, 1, 1]


@pytest.mark.skipif(not STARTER_FOLDER.is_dir(), reason="the starter teacher is not in this checkout")
def test_the_python_blocks(tmp_path):
    (tmp_path / "data").symlink_to(ROOT / "data")
    done = programs.run("-c", "\n".join(blocks("python")), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "(384,)" in done.stdout
