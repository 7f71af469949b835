"""BEIR folders round-trip, and every defect is named by file and line."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.data import dataset_loader
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.errors import UserError

GOOD = {"corpus.jsonl": '{"_id": "d1", "title": "T", "text": "one"}\n{"_id": "d2", "text": "two"}\n', "queries.jsonl": '{"_id": "q1", "text": "ask"}\n', "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq1\td1\t2\n"}  # fmt: skip


def write(folder, **changes):
    (folder / "qrels").mkdir(exist_ok=True)
    for name, text in {**GOOD, **changes}.items():
        (folder / name).write_text(text)
    return folder


def test_reads(tmp_path):
    dataset = beir.load(write(tmp_path))
    assert dataset.documents["d1"] == "T one"
    assert dataset.documents.record("d2") == ("", "two")
    assert dataset.qrels == {"test": {"q1": {"d1": 2}}}
    assert dataset.queries("test").ids == ["q1"]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n{"_id": \n', r"corpus.jsonl:2: not valid JSON"),
        ("corpus.jsonl", '{"_id": "d1", "text": "x"}\n\n{"_id": "d1", "text": "y"}\n', r"corpus.jsonl:3: duplicate id 'd1', first used on line 1"),
        ("corpus.jsonl", '{"_id": true, "text": "x"}\n', r'corpus.jsonl:1: "_id" must be a non-empty string or a whole number, not True'),
        ("corpus.jsonl", '{"_id": "d1", "text": "  "}\n', r"corpus.jsonl:1: the passage 'd1' is empty"),
        ("corpus.jsonl", '{"_id": "d1"}\n', r"corpus.jsonl:1: a passage needs the fields"),
        ("corpus.jsonl", "[1]\n", r"corpus.jsonl:1: a passage needs the fields"),
        ("corpus.jsonl", "", r"corpus.jsonl: the corpus is empty"),
        ("queries.jsonl", '{"_id": "q1", "text": ""}\n', r"queries.jsonl:1: the query 'q1' is empty"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1 d1 1\n", r"test.tsv:2: expected query-id"),
        ("qrels/test.tsv", "q1\td1\tmany\n", r"test.tsv:1: a grade must be a whole number, not 'many'"),
        ("qrels/test.tsv", "q1\td8\t1\nq1\td9\t1\n", r"2 judgements name a document that does not exist: 'd8' \(line 1\), 'd9' \(line 2\)"),
        ("qrels/test.tsv", "q7\td1\t1\n", r"1 judgement names a query that does not exist: 'q7'"),
    ],
)  # fmt: skip
def test_defects_are_named(tmp_path, file, text, message):
    with pytest.raises(UserError, match=message):
        beir.load(write(tmp_path, **{file: text}))


def test_missing_folder_and_files(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        dataset_loader.load(str(tmp_path / "nowhere"), tmp_path)
    with pytest.raises(UserError, match=r"no corpus.jsonl"):
        dataset_loader.load(str(tmp_path), tmp_path)
    with pytest.raises(UserError, match="did you mean 'scifact'"):
        dataset_loader.load("beir:scifacts", tmp_path)


def test_a_query_without_judgement_is_said(tmp_path, caplog):
    beir.load(write(tmp_path, **{"queries.jsonl": GOOD["queries.jsonl"] + '{"_id": "q2", "text": "idle"}\n'}))
    assert "1 query has no judgements, so not used, first 'q2'" in caplog.text


def test_missing_split(tmp_path):
    with pytest.raises(UserError, match="no split 'train'; it has: test"):
        beir.load(write(tmp_path)).qrels("train")


ids = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=("Cc", "Zs", "Cs")), min_size=1, max_size=8
)
texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(lambda text: text.strip())


@given(
    st.dictionaries(ids, st.tuples(texts, texts), min_size=1, max_size=5),
    st.dictionaries(ids, texts, min_size=1, max_size=3),
)
def test_round_trip(tmp_path_factory, documents, queries):
    qrels = {"test": [(query, doc, grade) for grade, (query, doc) in enumerate(zip(queries, documents, strict=False))]}
    dataset = Dataset.from_records("x", [(i, a, b) for i, (a, b) in documents.items()], list(queries.items()), qrels)
    folder = tmp_path_factory.mktemp("round") / "x"
    beir.save(dataset, folder)
    again = beir.load(folder)
    assert again.documents.fingerprint == dataset.documents.fingerprint
    assert again.queries.table["text"].to_pylist() == list(queries.values())
    assert again.qrels == dataset.qrels


def test_json_lines_are_plain(tmp_path):
    (tmp_path / "a").mkdir()
    beir.save(beir.load(write(tmp_path / "a")), tmp_path / "b")
    first = json.loads((tmp_path / "b" / "corpus.jsonl").read_text().splitlines()[0])
    assert first == {"_id": "d1", "title": "T", "text": "one"}


def test_a_download_is_whole_or_not_there(dataset_folder, tmp_path, monkeypatch):
    """Half an archive, half a folder: neither is taken for the collection, and a second try gets all of it."""
    monkeypatch.setitem(sys.modules, "requests", sys)  # which beir imports, and this test does not use
    from beir import util

    archive = Path(shutil.make_archive(str(tmp_path / "made"), "zip", Path(dataset_folder).parent, "tiny"))
    monkeypatch.setattr(dataset_loader, "BEIR_NAMES", ("tiny",))
    monkeypatch.setattr(util, "download_url", lambda url, path, _: Path(path).write_bytes(archive.read_bytes()[:500]))
    with pytest.raises(UserError, match="'beir:tiny' could not be downloaded"):
        dataset_loader.load("beir:tiny", tmp_path / "cache")
    assert not (tmp_path / "cache" / "tiny").exists()
    other = Path(shutil.make_archive(str(tmp_path / "other"), "zip", Path(dataset_folder)))
    monkeypatch.setattr(util, "download_url", lambda url, path, _: shutil.copy(other, path))
    with pytest.raises(UserError, match="'beir:tiny' could not be downloaded"):  # without the folder of that name
        dataset_loader.load("beir:tiny", tmp_path / "cache")
    half = tmp_path / "cache" / "tiny.partial" / "tiny"
    half.mkdir(parents=True)
    (half / "corpus.jsonl").write_text("")
    monkeypatch.setattr(util, "download_url", lambda url, path, _: shutil.copy(archive, path))
    found = dataset_loader.load("beir:tiny", tmp_path / "cache")
    assert found.documents.fingerprint == beir.load(dataset_folder).documents.fingerprint
    assert found.qrels == beir.load(dataset_folder).qrels
    monkeypatch.delattr(util, "download_url")  # not asked for again
    assert dataset_loader.load("beir:tiny", tmp_path / "cache").documents.ids == found.documents.ids
