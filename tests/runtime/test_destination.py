"""No verb writes where it must not: what somebody keeps there survives, and the message comes before any work."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from retrieval_distill import cli
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import destination, stages
from tests.commands import command

NOWHERE = "/no/such/dataset"

FOLDERS = {
    "prepare": [NOWHERE, "--out"],
    "generate": ["--dataset", NOWHERE, "--out"],
    "convert": [NOWHERE, "--to", "parquet"],
    "compress": ["--dataset", NOWHERE, "--model", "m", "--out"],
    "distill": ["scored.parquet", "--dataset", NOWHERE, "--out"],
    "feedback-to-dataset": ["log.db", NOWHERE, "--out"],
    "embed": ["--model", "m", "--dataset", NOWHERE, "--out"],
    "index": ["vectors", "--out"],
    "fit-teacher": ["--dataset", NOWHERE, "--out"],
    "gate": ["run.trec", "--dataset", NOWHERE, "--store", "s", "--out"],
    "run": ["demo", "--out"],
    "demo": ["--out"],
    "tune": ["demo", "--out"],
    "benchmark": ["--on", NOWHERE, "--out"],
    "rerank": ["run.trec", "--dataset", NOWHERE, "--store", "s", "--out"],
}
"""Verb -> arguments before the folder that it writes; nothing of them exists, so only the door can answer."""

FILES = {
    "retrieve": ["--dataset", NOWHERE, "--out"],
    "mine": ["--dataset", NOWHERE, "--out"],
    "score": ["run.trec", "--dataset", NOWHERE, "--store", "s", "--out"],
    "rerank": ["run.trec", "--dataset", NOWHERE, "--store", "s", "--out"],
    "filter-negatives": ["scored.parquet", "--dataset", NOWHERE, "--set", "margin=1", "--out"],
    "search": ["runs", "--queries", "test", "--out"],
    "convert": [NOWHERE, "--to", "sentence-transformers"],
    "export": ["vectors", "--out"],
    "evaluate": ["run.trec", "--dataset", NOWHERE, "--json"],
    "report": ["runs", "--out"],
    "scores": ["store", "--export"],
}
"""Verb -> arguments before the file that it writes."""

ENDINGS = {"export": ".parquet", "report": ".html", "evaluate": ".json", "convert": ".jsonl"}

STAGES = [name for name in FOLDERS if name not in ("run", "demo", "tune", "benchmark", "rerank")]


def seen(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_command_that_writes_is_here():
    commands = typer.main.get_command(cli.app).commands
    writing = {
        name for name, found in commands.items() if {"out", "json_file", "export"} & {p.name for p in found.params}
    }
    assert writing == {*FOLDERS, *FILES}


@pytest.mark.parametrize("verb", FOLDERS)
def test_a_strangers_folder_survives(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    docs = tmp_path / "mydocs"
    (docs / "drafts").mkdir(parents=True)
    (docs / "thesis.txt").write_text("three years of work")
    (docs / "drafts" / "one.txt").write_text("the first year")
    (docs / "manifest.json").write_text('{"name": "an extension of a browser"}')
    before = seen(tmp_path)
    assert "mydocs holds drafts and 2 more, which" in command(verb, *FOLDERS[verb], "mydocs", code=2)
    assert seen(tmp_path) == before


@pytest.mark.parametrize("verb", STAGES)
def test_a_strangers_folder_where_a_stage_would_work_survives(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.txt").write_text("half of it")
    assert "new.partial holds thesis.txt" in command(verb, *FOLDERS[verb], "new", code=2)
    assert seen(tmp_path) == {"new.partial/thesis.txt": b"half of it"}


@pytest.mark.parametrize("verb", FOLDERS)
@pytest.mark.parametrize("place", ["a file", "a link to a folder", "a link to nowhere", "within a file", "/proc"])
def test_a_place_for_no_folder(verb, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "real").mkdir()
    (tmp_path / "afile").write_text("text")
    (tmp_path / "to-folder").symlink_to("real")
    (tmp_path / "to-nowhere").symlink_to("gone")
    names = {"a file": "afile", "a link to a folder": "to-folder", "a link to nowhere": "to-nowhere",
             "within a file": "afile/sub/out", "/proc": "/proc/foo"}  # fmt: skip
    if verb not in STAGES and place == "a link to a folder":
        pytest.skip("such a folder is added to, and not replaced")
    said = command(verb, *FOLDERS[verb], names[place], code=2)
    assert names[place] in said and "process" not in said and NOWHERE not in said
    if place == "a link to a folder":
        assert str(tmp_path / "real") in said  # what would work
    assert seen(tmp_path) == {"afile": b"text"} and not any((tmp_path / "real").iterdir())


@pytest.mark.parametrize("verb", STAGES)
def test_the_working_folder_is_not_replaced(verb, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "..", tmp_path / "here", tmp_path):
        assert "name" in command(verb, *FOLDERS[verb], out, code=2)
    assert Path.cwd().is_dir()


@pytest.mark.parametrize("verb", FILES)
@pytest.mark.parametrize("place", ["another's file", "a folder", "a link to nowhere", "/proc"])
def test_a_place_for_no_file(verb, place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ending = ENDINGS.get(verb, ".trec")
    thesis, link = tmp_path / f"thesis{ending}", tmp_path / f"link{ending}"
    thesis.write_text("three years of work, in ten chapters\n")
    link.symlink_to("gone")
    (tmp_path / f"folder{ending}").mkdir()
    out = {"another's file": thesis, "a folder": tmp_path / f"folder{ending}", "a link to nowhere": link,
           "/proc": f"/proc/foo{ending}"}[place]  # fmt: skip
    said = command(verb, *FILES[verb], out, code=2)
    assert Path(out).name in said and NOWHERE not in said
    assert seen(tmp_path) == {thesis.name: thesis.read_bytes()} and thesis.read_text().startswith("three years")


def test_a_run_takes_the_place_of_a_run(dataset_folder, tmp_path):
    for name in ("bm25.trec", "bm25.parquet", "bm25.trec"):
        command("retrieve", "--dataset", dataset_folder, "--out", tmp_path / name)
    assert Run.load(tmp_path / "bm25.trec").pairs == Run.load(tmp_path / "bm25.parquet").pairs


@pytest.mark.parametrize("verb", STAGES)
def test_another_stages_folder_is_refused(verb, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stages.stage("another", "other", {}, lambda out: {"bytes": (out / "f").write_text("x")})
    before = seen(tmp_path)
    assert "other holds the result of `another`, not of" in command(verb, *FOLDERS[verb], "other", code=2)
    assert "lies in" in command(verb, *FOLDERS[verb], "other/in-it", code=2)
    assert seen(tmp_path) == before


@pytest.mark.parametrize(
    ("arguments", "out"),
    [
        (["embed", "--model", "out", "--dataset", NOWHERE, "--out"], "embed"),
        (["embed", "--model", "m", "--dataset", "out/corpus.jsonl", "--out"], "embed"),
        (["index", "out", "--out"], "index"),
        (["prepare", "out", "--out"], "prepare"),
        (["prepare", NOWHERE, "--qrels", "test=out/qrels/test.tsv", "--out"], "prepare"),
        (["generate", "--dataset", "out", "--out"], "generate"),
        (["compress", "--dataset", NOWHERE, "--model", "out", "--out"], "compress"),
        (["compress", "--dataset", NOWHERE, "--model", "m", "--set", "teacher=out", "--out"], "compress"),
        (["distill", "out/run.parquet", "--dataset", NOWHERE, "--out"], "distill"),
        (["distill", "r.trec", "--dataset", NOWHERE, "--set", "student.model=out", "--out"], "distill"),
        (["fit-teacher", "--dataset", NOWHERE, "--model", "out", "--out"], "fit-teacher"),
        (["convert", "out", "--to", "csv"], "convert"),
    ],
)
def test_what_is_read_is_not_written(arguments, out, tmp_path, monkeypatch):
    """Even where the folder is the verb's own, from an earlier time."""
    monkeypatch.chdir(tmp_path)

    def work(folder: Path) -> dict:
        (folder / "qrels").mkdir()
        for name in ("corpus.jsonl", "run.parquet", "qrels/test.tsv"):
            (folder / name).write_text("x")
        return {}

    stages.stage(out, "out", {}, work)
    before = seen(tmp_path)
    assert "is an input" in command(*arguments, "out", code=2)
    assert seen(tmp_path) == before


def test_a_run_file_that_is_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Run.from_dict({"q": {"d": 1.0}}).save("r.trec")
    said = command("score", "r.trec", "--dataset", NOWHERE, "--store", "s", "--out", "r.trec", code=2)
    assert "r.trec is an input, so it cannot be the output too" in said


def test_an_empty_folder_and_an_own_one_will_do(tmp_path):
    (tmp_path / "empty").mkdir()
    for inputs in ({}, {}, {"other": 1}):
        destination.check_stage_folder(tmp_path / "empty", "try")
        stages.stage("try", tmp_path / "empty", inputs, lambda out: {"bytes": (out / "f").write_text("x")})
    assert (tmp_path / "empty" / "f").read_text() == "x"
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_files_put_into_an_own_folder_survive(tmp_path):
    """The same inputs find the folder as it is; others would replace it, so they are refused until it is cleared."""

    def made(number: int) -> stages.Manifest:
        return stages.stage("try", tmp_path / "out", {"n": number}, lambda out: {"b": (out / "f").write_text("x")})

    made(1)
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    (tmp_path / "out" / ".DS_Store").write_text("nobody's")
    assert made(1)["skipped"]
    with pytest.raises(UserError, match=r"out holds thesis\.txt, which `try` did not write.*move it away"):
        made(2)
    (tmp_path / "out" / "thesis.txt").rename(tmp_path / "thesis.txt")
    assert not made(2)["skipped"]
    assert seen(tmp_path).keys() == {"thesis.txt", "out/f", "out/manifest.json", "out/.fingerprint"}


def test_a_model_card_that_was_edited_survives(tmp_path):
    def work(out: Path) -> dict:
        (out / "README.md").write_text("written")
        return {}

    card = tmp_path / "out" / "README.md"
    stages.stage("try", tmp_path / "out", {}, work)
    stages.attach(tmp_path / "out", "README.md", "measured")
    assert card.read_text() == "measured" and stages.stage("try", tmp_path / "out", {}, work)["skipped"]
    card.write_text("edited by hand")
    stages.attach(tmp_path / "out", "README.md", "measured again")
    assert card.read_text() == "edited by hand" and stages.stage("try", tmp_path / "out", {}, work)["skipped"]
    with pytest.raises(UserError, match=r"README\.md"):
        stages.stage("try", tmp_path / "out", {"other": 1}, work)


def test_a_file_that_appears_during_the_work_is_kept_beside(tmp_path, caplog):
    stages.stage("try", tmp_path / "out", {}, lambda out: {"b": (out / "f").write_text("x")})

    def work(out: Path) -> dict:
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        return {}

    stages.stage("try", tmp_path / "out", {"other": 1}, work)
    assert (tmp_path / "out.aside" / "thesis.txt").read_text() == "mine" and "out.aside" in caplog.text
    assert not (tmp_path / "out.aside" / "f").exists()


def test_the_result_of_an_older_version_is_replaced_and_kept_beside(tmp_path):
    """Its manifest does not name its files, so nobody knows which are its own."""
    out = tmp_path / "out"
    stages.stage("try", out, {}, lambda folder: {"b": (folder / "f").write_text("x")})
    manifest = stages.read_json(out / "manifest.json")
    stages.write_json(
        out / "manifest.json", {k: v for k, v in manifest.items() if k not in ("format", "files", "checksum")}
    )
    assert stages.stage("try", out, {}, lambda folder: {})["skipped"]
    assert not stages.stage("try", out, {"other": 1}, lambda folder: {"b": (folder / "g").write_text("y")})["skipped"]
    assert seen(tmp_path).keys() >= {"out/g", "out.aside/f"}


def test_convert_leaves_nothing_of_another_dataset(dataset, tmp_path):
    both = tmp_path / "both"
    beir.save(dataset, both)
    shutil.copytree(both, tmp_path / "one")
    (tmp_path / "one" / "qrels" / "test.tsv").unlink()
    command("convert", both, tmp_path / "out", "--to", "beir")
    command("convert", tmp_path / "one", tmp_path / "out", "--to", "beir")
    assert sorted(path.name for path in (tmp_path / "out" / "qrels").iterdir()) == ["dev.tsv", "train.tsv"]
    before = seen(both)
    assert "both holds corpus.jsonl and 2 more" in command("convert", tmp_path / "one", both, "--to", "beir", code=2)
    assert seen(both) == before


def test_a_mount_point(small_disk):
    assert "is a mount point" in command("index", "vectors", "--out", small_disk, code=2)


def test_a_result_that_is_there_needs_nothing_writable(small_disk):
    def made(number: int) -> stages.Manifest:
        return stages.stage("try", small_disk / "out", {"n": number}, lambda out: {"b": (out / "f").write_text("x")})

    made(1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert made(1)["skipped"]
    with pytest.raises(UserError, match=r"out: cannot be written \(Read-only file system"):
        made(2)
    destination.check_stage_folder(small_disk / "out", "try")  # it may be all there is to do
    with pytest.raises(UserError, match=r"new: cannot be written \(Read-only file system"):
        destination.check_stage_folder(small_disk / "new", "try")


def test_a_folder_that_cannot_be_changed(tmp_path):
    folder = tmp_path / "fixed"
    folder.mkdir()
    if not shutil.which("chattr") or subprocess.run(["chattr", "+i", str(folder)], capture_output=True).returncode:
        pytest.skip("no folder can be made immutable here")
    try:
        for out in (folder, folder / "in-it"):
            assert "cannot be written (Operation not permitted" in command("index", "vectors", "--out", out, code=2)
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


def test_a_device_is_written_as_it_is(tmp_path, dataset_folder):
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        stages.write_json(tmp_path / "pipe", {"a": 1})
        assert os.read(reader, 100) == b'{\n  "a": 1\n}\n'
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


def test_a_score_store_is_not_made_of_a_strangers_folder(tmp_path):
    (tmp_path / "mydata" / "train").mkdir(parents=True)
    (tmp_path / "mydata" / "train" / "rows.parquet").write_text("mine")
    before = seen(tmp_path)
    assert "mydata holds train and is not a score store" in command("scores", tmp_path / "mydata", "--verify", code=2)
    assert seen(tmp_path) == before
