"""Searching a run: fused with BM25 where its dev split finds that better, found out once, and quick from then on."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys

import pytest

import retrieval_distill as rd
from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.index.faiss_index import index
from retrieval_distill.runtime import stages
from retrieval_distill.search.hits import Hit
from tests.commands import command, program

QUERY = "split root extension"


@pytest.fixture
def run(corpus, tiny_recipe, tmp_path):
    """What a search needs of a finished run, whose BM25 finds what its random student does not."""
    recipe = parse_recipe(tiny_recipe | {"dataset": {"source": str(tmp_path / "data")}})
    shutil.copytree(corpus.data, tmp_path / "data")
    shutil.copytree(corpus.index, tmp_path / "run" / "index-student")
    shutil.copytree(corpus.model, tmp_path / "run" / "student")
    stages.write_json(tmp_path / "run" / "recipe.json", recipe.model_dump(mode="json"))
    return tmp_path / "run"


@pytest.fixture(autouse=True)
def _log(caplog):
    with caplog.at_level(logging.INFO, logger="retrieval_distill"):
        yield


def found(run, *options):
    lines = command("search", run, QUERY, "--json", *options).splitlines()
    return [hit["id"] for hit in json.loads(lines[-1])["hits"]]


ASKED = "once, on split dev"


def test_the_dev_split_decides_once(run):
    text = command("search", run, QUERY)
    assert text.count(ASKED) == 1 and "nDCG@10 on 6 queries of dev: fused (" in text and "served: fused" in text
    assert "by dense search fused with BM25 (" in text
    again = command("search", run, QUERY)
    assert ASKED not in again and "by dense search fused with BM25 (" in again
    assert found(run) == found(run, "--hybrid", "tuned") != found(run, "--hybrid", "none")
    kept = json.loads((run / "search" / "fusion.json").read_text())
    assert kept["split"] == "dev" and kept["gain"]["mean"] == pytest.approx(kept["mean"] - kept["alone"])


def test_a_student_that_is_better_alone_is_served_alone(run, corpus):
    best = corpus.searcher().dense(corpus.dataset.queries("dev"), 1)
    rows = "".join(f"{query}\t{doc}\t1\n" for query, doc in best.pairs)
    (run.parent / "data" / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + rows)
    text = command("search", run, QUERY)
    assert "served: the student alone" in text and text.endswith("by dense search\n")
    assert ASKED not in command("search", run, QUERY)
    assert found(run) == found(run, "--hybrid", "none")


@pytest.mark.parametrize("change", ["index", "documents", "damaged", "older"])
def test_a_decision_for_something_else_is_noticed(run, corpus, change):
    command("search", run, QUERY)
    file = run / "search" / "fusion.json"
    if change == "index":
        shutil.rmtree(run / "index-student")
        index(corpus.folder / "vectors", run / "index-student", "sq8")
    elif change == "documents":
        path = run.parent / "data" / "corpus.jsonl"
        path.write_text(path.read_text().replace("extension", "ending"))
    elif change == "damaged":
        file.write_text("{")
    else:
        file.write_text('{"chosen": {"method": "rank", "dense": 0.5}}')
    refused = command("search", run, QUERY, "--hybrid", "tuned", code=2)
    assert "tune again" in refused
    assert ASKED in command("search", run, QUERY)
    assert ASKED not in command("search", run, QUERY, "--hybrid", "tuned")


@pytest.mark.parametrize("dev", [None, "nothing"])
def test_without_dev_queries_the_student_is_served(run, dev):
    recipe = stages.read_json(run / "recipe.json")
    recipe["dataset"]["dev"] = dev
    stages.write_json(run / "recipe.json", recipe)
    text = command("search", run, QUERY)
    assert ASKED not in text and text.endswith("by dense search\n")


def test_weights_tuned_by_hand_stand(run):
    command("search", run, "--tune", "test")
    assert ASKED not in command("search", run, QUERY)
    assert json.loads((run / "search" / "fusion.json").read_text())["split"] == "test"


def test_a_folder_that_cannot_be_written_to_is_searched(run):
    (run / "search").write_text("in the way")
    text = command("search", run, QUERY)
    assert "searching with the student alone" in text and "5 of 60 documents in" in text


def test_a_searcher_of_a_run_in_python(run):
    searcher = rd.Searcher.open(run)
    hits = searcher(QUERY, depth=3)
    assert [hit.id for hit in hits] == found(run, "--depth", "3") and all(isinstance(hit, Hit) for hit in hits)
    first = hits[0]
    assert first.title.startswith("title ") and first.snippet and set(first.snippet.split()) & set(QUERY.split())
    assert first.score >= hits[1].score >= hits[2].score
    assert repr(searcher).startswith("Searcher(60 documents of 'data', index flat, dense search fused with BM25 (")
    assert len(searcher(QUERY)) == 5
    with pytest.raises(UserError, match="the query is empty"):
        searcher(" ")
    with pytest.raises(UserError, match="no finished run there"):
        rd.Searcher.open(run / "student")
    with pytest.raises(UserError, match="needs model and dataset"):
        rd.Searcher.open(run / "index-student", "model")


def test_the_next_search_imports_nothing_slow(run):
    """PyTorch, transformers, sentence-transformers and scipy.stats take most of the time that a first answer takes."""
    expected = found(run)
    code = (
        "import sys; from retrieval_distill import cli\n"
        f"sys.argv = ['retrieval-distill', 'search', {str(run)!r}, {QUERY!r}, '--json']\n"
        "cli.main()\n"
        "slow = {'torch', 'transformers', 'sentence_transformers', 'datasets', 'sklearn', 'duckdb', 'ir_measures'}\n"
        "print(*(slow | {'scipy.stats'}) & set(sys.modules), file=sys.stderr)"
    )
    code = code.replace("cli.main()", "try:\n    cli.main()\nexcept SystemExit:\n    pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.splitlines()[-1] == "", done.stderr
    assert [hit["id"] for hit in json.loads(done.stdout)["hits"]] == expected


def test_the_program_says_what_it_does(run):
    text = program("search", run, QUERY)
    assert ASKED in text and "1. title" in text


def test_an_exported_copy_of_the_student_asks_in_its_place(run, corpus, tmp_path):
    pytest.importorskip("onnxruntime")
    rd.export_model(corpus.model, out=tmp_path / "onnx", to="onnx")
    own, exported = ("--hybrid", "none"), ("--model", tmp_path / "onnx")
    assert found(run, *own, *exported) == found(run, *own)
    searcher = rd.Searcher.open(run, model=tmp_path / "onnx")
    assert [hit.id for hit in searcher(QUERY)] == found(run, *exported)
    assert "was not built with" in command("search", run, QUERY, "--model", tmp_path, code=2)


def test_a_run_is_searched_from_any_folder(tiny_recipe, tmp_path, monkeypatch):
    """Its recipe names its documents by a path that starts where the run was made."""
    project, elsewhere = tmp_path / "project", tmp_path / "elsewhere"
    for folder in (project, elsewhere):
        folder.mkdir()
    shutil.copytree(tiny_recipe["dataset"]["source"], project / "data")
    monkeypatch.chdir(project)
    splits = {split: f"data/qrels/{split}.tsv" for split in ("train", "dev", "test")}
    files = {"source": "data/corpus.jsonl", "queries": "data/queries.jsonl", "qrels": splits}
    recipe = {**tiny_recipe, "dataset": {**tiny_recipe["dataset"], **files}}
    pipeline.run(parse_recipe(recipe), out="runs/mine")
    question = "split a path"
    here = [hit.id for hit in rd.Searcher.open("runs/mine")(question)]
    monkeypatch.chdir(elsewhere)
    assert [hit.id for hit in rd.Searcher.open(project / "runs" / "mine")(question)] == here
    (project / "data").rename(elsewhere / "data")
    assert [hit.id for hit in rd.Searcher.open(project / "runs" / "mine")(question)] == here  # a path from here
