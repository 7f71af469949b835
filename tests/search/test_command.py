"""The command ``search`` and ``index --kind auto`` as a user meets them."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys

import pytest

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.index.index import Index
from tests import programs
from tests.commands import command


def test_one_query_is_answered_with_its_best_sentence(corpus):
    text = command("search", *corpus.options, "split root extension", "--depth", "2")
    assert text.splitlines()[0].startswith("1. title ") and "2. title " in text and "2 of 60 documents in" in text
    assert "\x1b" not in text  # no colours where there is no terminal


def test_json_has_what_a_program_needs(corpus):
    found = json.loads(command("search", *corpus.options, "split root extension", "--json", "--depth", "3"))
    assert [hit["rank"] for hit in found["hits"]] == [1, 2, 3] and found["query"] == "split root extension"
    first = found["hits"][0]
    assert corpus.dataset.documents.record(first["id"])[0] == first["title"] and first["passage"] == first["id"]
    assert [hit["score"] for hit in found["hits"]] == sorted((hit["score"] for hit in found["hits"]), reverse=True)


def test_lines_of_a_pipe_are_answered_one_by_one(corpus, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("path\n\n:9\nfile root\n:1\n:q\nnever read\n"))
    text = command("search", *corpus.options, "--depth", "1")
    assert text.count("1 of 60 documents in") == 2 and "error: :9:" in text
    assert "never read" not in text


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_empty_ones(corpus, closed, tmp_path):
    asked = [sys.executable, "-m", "retrieval_distill", "search", *corpus.options]
    asked += [] if "<" in closed else ["--queries", "test", "--out", str(tmp_path / "run.trec")]
    done = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", *asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "<" in closed or len(Run.load(tmp_path / "run.trec"))


def test_json_lines_of_a_pipe(corpus, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("path\nfile root\n"))
    lines = command("search", *corpus.options, "--json").splitlines()
    assert [json.loads(line)["query"] for line in lines] == ["path", "file root"]


@pytest.mark.parametrize("queries", ["split", "table"])
def test_a_file_of_queries_becomes_a_run(corpus, tmp_path, queries):
    if queries == "table":
        asked = tmp_path / "queries.tsv"
        rows = corpus.dataset.queries("test").records()
        asked.write_text("id\ttext\n" + "".join(f"{id_}\t{text}\n" for id_, _, text in rows))
    else:
        asked = "test"
    command("search", *corpus.options, "--queries", asked, "--out", tmp_path / "run.trec", "--depth", "9")
    found = Run.load(tmp_path / "run.trec")
    expected = corpus.searcher().documents(corpus.dataset.queries("test"), 9)
    assert found.pairs == expected.pairs


def test_weights_are_tuned_kept_and_used(corpus, tmp_path):
    assert "no tuned weights" in command("search", *corpus.options, "path", "--hybrid", "tuned", code=2)
    text = command("search", *corpus.options, "--tune", "dev")
    assert "nDCG@10 over 6 queries" in text and "kept: " in text
    kept = json.loads((corpus.folder / "index-search" / "fusion.json").read_text())
    command("search", *corpus.options, "--hybrid", "tuned", "--queries", "dev", "--out", tmp_path / "tuned.trec")
    said = f"{kept['chosen']['method']}:{kept['chosen']['dense']}"
    command("search", *corpus.options, "--hybrid", said, "--queries", "dev", "--out", tmp_path / "said.trec")
    assert (tmp_path / "tuned.trec").read_bytes() == (tmp_path / "said.trec").read_bytes()
    from retrieval_distill.evaluation.measures import evaluate

    means = evaluate(Run.load(tmp_path / "tuned.trec"), corpus.dataset.qrels("dev"), ["nDCG@10"])
    assert means["nDCG@10"].mean() == pytest.approx(kept["mean"], abs=1e-9)


def test_filters_and_reranking(corpus, cross_encoders):
    found = json.loads(command("search", *corpus.options, "path", "--where", "year = 2003", "--json"))
    assert sorted(hit["id"] for hit in found["hits"]) != [] and all(hit["id"][-1] == "3" for hit in found["hits"])
    reranked = json.loads(command("search", *corpus.options, "path", "--rerank", cross_encoders["bert"], "--json"))
    plain = json.loads(command("search", *corpus.options, "path", "--json"))
    assert [h["id"] for h in reranked["hits"]] != [h["id"] for h in plain["hits"]]
    assert (corpus.folder / "index-search" / "scores").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "the query is empty"),
        (["path", "again"], "no folder of a run"),
        (["--queries", "test"], "belong together"),
        (["--queries", "nothing", "--out", "x"], "no such file, and no such split"),
        (["--tune", "nothing"], "has no split 'nothing'"),
        (["path", "--hybrid", "much"], "such as score:0.7"),
        (["path", "--where", "nothing = 1"], "--where"),
    ],
)
def test_mistakes_are_explained(corpus, arguments, message):
    assert message in command("search", *corpus.options, *arguments, code=2)


def test_parts_that_are_missing_are_named(corpus, tmp_path):
    assert "name the folder of a run" in command("search", code=2)
    assert "--index needs --model" in command("search", "--index", corpus.index, "path", code=2)
    assert "no finished run there" in command("search", tmp_path, "path", code=2)


def test_another_model_is_refused(corpus, encoders):
    options = ["--index", corpus.index, "--model", encoders["roberta"], "--dataset", corpus.data]
    assert f"{corpus.index}: this index was not built with" in command("search", *options, "path", code=2)


@pytest.mark.parametrize("fault", ["missing", "altered"])
def test_an_index_that_is_not_as_it_was_written_is_refused(corpus, tmp_path, fault):
    shutil.copytree(corpus.index, tmp_path / "index")
    path = tmp_path / "index" / "index.faiss"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.unlink() if fault == "missing" else path.write_bytes(data)
    options = ["--index", tmp_path / "index", *corpus.options[2:]]
    said = command("search", *options, "path", code=2)
    assert "index.faiss: this file of the index" in said and fault in said and "build the index again" in said


def test_a_line_of_a_million_characters_is_cut_and_answered(corpus, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * 1_000_000 + "\nfile root\n"))
    text = command("search", *corpus.options, "--depth", "1")
    assert "the query has 1,000,000 characters; only the first 20,000 are used" in text
    assert text.count("1 of 60 documents in") == 2 and "error:" not in text


def test_a_prompt_goes_on_while_its_index_is_replaced(corpus, tmp_path):
    """It answers from the index it opened, whose files are gone from the folder by then."""
    shutil.copytree(corpus.index, tmp_path / "index")
    asked = ["search", "--index", tmp_path / "index", *corpus.options[2:], "--json"]
    process = programs.Program("-m", "retrieval_distill", *asked)

    def answer() -> list[dict]:
        process.stdin.write("split root extension\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())["hits"]

    before = answer()
    command("index", corpus.folder / "vectors", "--out", tmp_path / "index", "--kind", "binary")
    assert Index.open(tmp_path / "index").manifest["counts"]["kind"] == "binary"
    assert answer() == before and len(before) == 5
    process.stdin.close()
    assert process.wait() == 0


def test_an_index_by_intent(corpus, tmp_path):
    text = command(
        "index", corpus.folder / "vectors", "--out", tmp_path / "auto", "--kind", "auto", "--intent", "recall=0.9",
        "--intent", "memory=1MB", "--model", corpus.model, "--dataset", corpus.data,
    )  # fmt: skip
    assert "recall@10 of 0.9 or more, at most 1.0 MB" in text and "Chosen as the cheapest" in text
    assert (tmp_path / "auto" / "tuning.html").read_text().count("<svg") == 2
    refused = command(
        "index", corpus.folder / "vectors", "--out", tmp_path / "x", "--kind", "auto", "--intent", "recal=1", code=2
    )
    assert "error: --intent 'recal=1': key 'recal' does not exist; did you mean 'recall'" in refused


def test_an_index_by_intent_of_one_document_and_one_query(encoders, tmp_path):
    one = Dataset.from_records("one", [("d", "", "path file")], [("q", "path")], {"train": [("q", "d", 1)]})
    beir.save(one, tmp_path / "data")
    command("embed", "--model", encoders["bert"], "--dataset", tmp_path / "data", "--out", tmp_path / "vectors")
    auto = ("index", tmp_path / "vectors", "--kind", "auto", "--out")
    assert "1 document," in command(*auto, tmp_path / "plain")
    asked = ("--model", encoders["bert"], "--dataset", tmp_path / "data")
    text = command(*auto, tmp_path / "asked", *asked)
    assert "1 document," in text and "2 held-out queries are needed" in text
    for name in ("plain", "asked"):
        searched = ("search", "--index", tmp_path / name, *asked, "path", "--json")
        assert [hit["id"] for hit in json.loads(command(*searched))["hits"]] == ["d"]
