"""Grades and ids: one rule for every format they may come in; and which files of a folder hold them."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader
from retrieval_distill.errors import UserError

FORMATS = ("tsv", "trec", "csv", "jsonl", "parquet")


def folder(tmp_path, ids=("1", "2")):
    (tmp_path / "qrels").mkdir(exist_ok=True)
    (tmp_path / "corpus.jsonl").write_text("".join(f'{{"_id": "{id_}", "text": "x"}}\n' for id_ in ids))
    (tmp_path / "queries.jsonl").write_text('{"_id": "7", "text": "ask"}\n')
    for path in (tmp_path / "qrels").iterdir():
        path.unlink()
    return tmp_path


def judged(path, format_, rows):
    """A file of judgements in a format; values of JSON lines and Parquet are of their own types."""
    path = path / "qrels" / f"test.{'tsv' if format_ == 'trec' else format_}"
    if format_ == "tsv":
        path.write_text("query-id\tcorpus-id\tscore\n" + "".join("\t".join(map(str, row)) + "\n" for row in rows))
    elif format_ == "trec":
        path.write_text("\n" + "".join(f"{q} 0 {d} {g}\n" for q, d, g in rows))
    elif format_ == "csv":
        path.write_text("query-id,corpus-id,score\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    elif format_ == "jsonl":
        values = ({"query_id": q, "doc_id": d, "score": g} for q, d, g in rows)
        path.write_text("".join(json.dumps(row) + "\n" for row in values))
    else:
        columns = zip(("query_id", "doc_id", "score"), zip(*rows, strict=True), strict=True)
        pq.write_table(pa.table({name: list(values) for name, values in columns}), path)
    return path


def read(path, **options):
    return dataset_loader.load(str(path), path / "cache", ReadConfig(**options))


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("grade", ["2", "2.0", "2e0", "+2", "0.2e1", "2."])
def test_whole_numbers_in_any_notation(tmp_path, format_, grade):
    judged(folder(tmp_path), format_, [("7", "1", grade), ("7", "2", "-1")])
    assert read(tmp_path).qrels == {"test": {"7": {"1": 2, "2": -1}}}


@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
@pytest.mark.parametrize("grade", [2, 2.0])
def test_ids_and_grades_that_are_numbers(tmp_path, format_, grade):
    judged(folder(tmp_path), format_, [(7, 1, grade), (7, 2, grade)])
    assert read(tmp_path).qrels == {"test": {"7": {"1": 2, "2": 2}}}


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize(
    "grade", ["0.5", "Infinity", "-inf", "NaN", "1e400", "1_0", "0x1", "9999999999", "high", "true"]
)
def test_other_grades_are_bad_rows(tmp_path, format_, grade):
    path = judged(folder(tmp_path), format_, [("7", "1", "1"), ("7", "2", grade)])
    row = {"tsv": 3, "trec": 3, "csv": 3}.get(format_, 2)
    with pytest.raises(UserError, match=rf"{path}:{row}: a grade must be a whole number, not '{grade}'"):
        read(tmp_path)
    assert read(tmp_path, on_bad="skip").qrels == {"test": {"7": {"1": 1}}}


@pytest.mark.parametrize("grade", [0.5, float("inf"), float("nan"), True, 2**40])
@pytest.mark.parametrize("format_", ["jsonl", "parquet"])
def test_other_values_are_bad_rows(tmp_path, format_, grade):
    path = judged(folder(tmp_path), format_, [("7", "2", grade)])
    with pytest.raises(UserError, match=rf"{path}:1: a grade must be a whole number, not {str(grade)[:3]}"):
        read(tmp_path)


def test_ids_that_are_whole_numbers_in_json_lines(tmp_path):
    path = folder(tmp_path)
    (path / "corpus.jsonl").write_text('{"_id": 1, "text": "x", "title": 1984}\n')
    (path / "queries.jsonl").write_text('{"_id": 7, "text": "ask"}\n')
    judged(path, "tsv", [("7", "1", 1)])
    found = read(path)
    assert list(found.documents.records()) == [("1", "1984", "x")] and found.qrels == {"test": {"7": {"1": 1}}}
    judged(path, "jsonl", [(7.5, 1, 1)]).rename(path / "qrels" / "test.jsonl")
    (path / "qrels" / "test.tsv").unlink()
    with pytest.raises(UserError, match=r"test.jsonl:1: an id must be a string or a whole number, not 7.5"):
        read(path)


def test_files_that_hold_no_judgements(tmp_path, caplog):
    """Hidden ones are passed over; others are named once."""
    path = folder(tmp_path)
    judged(path, "tsv", [("7", "1", 1)])
    (path / "qrels" / "dev.txt").write_text("7 0 2 1\n")
    (path / "qrels" / "._test.tsv").write_bytes(b"\0\5\26\7\xff")
    (path / "qrels" / ".DS_Store").write_bytes(b"\0")
    (path / "qrels" / "README.txt").write_text("These are the judgements.\n")
    (path / "qrels" / "empty.txt").write_text("")
    (path / "qrels" / "notes.md").write_text("judged by hand")
    (path / "qrels" / "old").mkdir()
    assert read(path).qrels == {"dev": {"7": {"2": 1}}, "test": {"7": {"1": 1}}}
    assert caplog.text.count("skipped files without judgements: README.txt, empty.txt, notes.md, old") == 1


def test_case_of_file_names(tmp_path):
    path = folder(tmp_path)
    judged(path, "tsv", [("7", "1", 1)]).rename(path / "qrels" / "test.TSV")
    (path / "corpus.jsonl").rename(path / "corpus.JSONL")
    (path / "queries.jsonl").rename(path / "Queries.Jsonl")
    assert read(path).qrels == {"test": {"7": {"1": 1}}}
    (path / "corpus.csv").write_text("id,text\n1,x\n")
    with pytest.raises(UserError, match=r"corpus.JSONL and corpus.csv both exist; keep one"):
        read(path)


def test_a_query_of_ms_marco_that_stands_in_two_files(tmp_path):
    """``queries.dev.small.tsv`` is part of ``queries.dev.tsv``."""
    (tmp_path / "collection.tsv").write_text("1\tone\n")
    (tmp_path / "queries.dev.tsv").write_text("7\task\n8\tmore\n")
    (tmp_path / "queries.dev.small.tsv").write_text("7\task\n")
    (tmp_path / "queries.eval.tsv").write_text("7\task\n9\tlast\n")
    (tmp_path / "qrels.dev.small.tsv").write_text("7\t0\t1\t1\n")
    found = read(tmp_path)
    assert [(id_, text) for id_, _, text in found.queries.records()] == [("7", "ask"), ("8", "more"), ("9", "last")]
    (tmp_path / "queries.eval.tsv").write_text("7\tother\n")
    with pytest.raises(UserError, match=r"queries.eval.tsv:1: duplicate id '7', first used on line 1 of .*queries.dev"):
        read(tmp_path)
    (tmp_path / "queries.eval.tsv").write_text("9\tlast\n9\tlast\n")
    with pytest.raises(UserError, match=r"queries.eval.tsv:2: duplicate id '9'"):
        read(tmp_path)
