"""Every layout of precomputed scores reads to the same table; what cannot be meant is refused with its place."""

from __future__ import annotations

import gzip
import hashlib
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.scores import score_files
from retrieval_distill.scores.score_files import read_scores
from retrieval_distill.scores.teacher_contract import Pairs

SCORES = {("1", "10"): 2.5, ("1", "11"): -1.0, ("2", "10"): 0.25}


def as_dict(frame: pd.DataFrame) -> dict[tuple[str, str], float]:
    assert list(frame.columns) == ["query_id", "doc_id", "score"]
    assert not frame.duplicated(["query_id", "doc_id"]).any()
    return {(query, document): score for query, document, score in frame.itertuples(index=False)}


def parquet(path: Path, **columns) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def text(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


MARCO = [
    {"qid": 1, "pos": [{"pid": 10, "ce-score": 2.5}], "neg": {"bm25": [{"pid": 11, "ce-score": -1.0}], "tas-b": []}},
    {"qid": 2, "pos": [], "neg": {"bm25": [{"pid": 10, "ce-score": 0.25}], "tas-b": [{"pid": 10, "ce-score": 0.25}]}},
]


def test_a_trec_run(tmp_path):
    path = text(tmp_path / "scores.trec", "1 Q0 11 2 -1.0 x", "2 Q0 10 1 0.25 x", "1 Q0 10 1 2.5 x")
    assert as_dict(read_scores(path)) == SCORES


@pytest.mark.parametrize("document", ["doc_id", "passage_id", "corpus_id", "document_id", "document_ids"])
@pytest.mark.parametrize("score", ["score", "ce_score", "ce-score"])
def test_parquet_with_a_row_per_pair(tmp_path, document, score):
    columns = {"query_id": ["1", "1", "2"], document: ["10", "11", "10"], score: [2.5, -1.0, 0.25], "other": [0, 0, 0]}
    assert as_dict(read_scores(parquet(tmp_path / "s.parquet", **columns))) == SCORES


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list])
@pytest.mark.parametrize("id_type", [pa.int64(), pa.string(), pa.large_string()])
def test_parquet_with_lists(tmp_path, kind, id_type):
    documents = pa.array([["10", "11"], [], ["10"]], kind(pa.string())).cast(kind(id_type))
    scores = pa.array([[2.5, -1], [], [0.25]], kind(pa.float32()))
    path = parquet(tmp_path / "s.parquet", query_id=[1, 3, 2], passage_id=documents, score=scores)
    assert as_dict(read_scores(path)) == SCORES


def test_parquet_with_ids_of_other_kinds(tmp_path):
    queries = pa.array(["1", "1", "2"]).dictionary_encode()
    documents = pa.array([10, 11, 10], pa.uint32())
    path = parquet(tmp_path / "s.parquet", query_id=queries, doc_id=documents, score=pa.array([4, -1, 3]))
    assert as_dict(read_scores(path)) == {("1", "10"): 4.0, ("1", "11"): -1.0, ("2", "10"): 3.0}


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.ndjson"])
def test_scored_hard_negatives(tmp_path, name, monkeypatch):
    monkeypatch.setattr(score_files, "PAIRS_PER_CHUNK", 2)
    path = text(tmp_path / name, *map(json.dumps, MARCO), "")
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert as_dict(read_scores(path)) == SCORES


ID = st.text(
    st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters='"'), min_size=1, max_size=4
)
NUMBER = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=25, derandomize=True)
@given(
    scores=st.dictionaries(st.tuples(ID, ID), NUMBER, min_size=1, max_size=8), name=st.sampled_from(["r", "r.parquet"])
)
def test_a_saved_run_reads_back(scores, name):
    with tempfile.TemporaryDirectory() as folder:
        run = Run.from_columns(*zip(*scores, strict=True), list(scores.values()))
        run.save(Path(folder) / name)
        assert as_dict(read_scores(Path(folder) / name)) == scores


BAD_LINES = {
    "{": "JSONDecodeError",
    '{"pos": []}': "KeyError: 'qid'",
    '{"qid": 1, "pos": [10], "neg": {"bm25": [11]}}': "not scored entries like",  # as published without scores
    '{"qid": 1, "pos": [{"pid": 10}]}': "ce-score",
    '{"qid": 1, "pos": [{"pid": 10.5, "ce-score": 1}]}': "10.5",
    '{"qid": null, "pos": []}': "None",
    '{"qid": 1, "neg": [1]}': "AttributeError",
    '{"qid": 1, "pos": [{"pid": 10, "ce-score": "high"}]}': "high",
    "[1]": "TypeError",
    '{"qid": "\\ud800", "pos": [{"pid": 10, "ce-score": 1}]}': "UnicodeEncodeError",
    "[" * 100_000: "RecursionError",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:40])
def test_a_bad_json_line_is_named(tmp_path, line):
    path = text(tmp_path / "s.jsonl", json.dumps(MARCO[0]), line)
    with pytest.raises(UserError, match=r"s\.jsonl:2: not scored entries") as error:
        read_scores(path)
    assert BAD_LINES[line] in str(error.value)


def test_a_bad_trec_line_is_named(tmp_path):
    with pytest.raises(UserError, match=r"s\.trec:2: not a TREC run line"):
        read_scores(text(tmp_path / "s.trec", "1 Q0 10 1 2.5 x", "1 10 2.5"))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_scores_that_are_no_numbers_are_named(tmp_path, value):
    columns = {"query_id": ["1", "1", "2"], "doc_id": ["10", "11", "10"], "score": [2.5, value, value]}
    for path in (parquet(tmp_path / "s.parquet", **columns), tmp_path / "s.jsonl", tmp_path / "s.trec"):
        if path.suffix == ".jsonl":
            entry = {"qid": 1, "pos": [{"pid": 11, "ce-score": value}], "neg": {"a": [{"pid": 12, "ce-score": value}]}}
            text(path, json.dumps(entry))
        if path.suffix == ".trec":
            text(path, f"1 Q0 11 1 {value} x", f"2 Q0 10 1 {value} x")
        with pytest.raises(UserError, match=r"2 scores are NaN or infinite, first .* for query '1' and document '11'"):
            read_scores(path)


def test_a_pair_twice(tmp_path):
    equal = parquet(tmp_path / "s.parquet", query_id=["1", "1"], doc_id=["10", "10"], score=[2.5, 2.5])
    assert as_dict(read_scores(equal)) == {("1", "10"): 2.5}
    with pytest.raises(UserError, match=r"query '1' and document '10' have different scores: 2\.5 and 3"):
        read_scores(parquet(tmp_path / "s.parquet", query_id=["1", "1"], doc_id=["10", "10"], score=[2.5, 3.0]))


@pytest.mark.parametrize("name", ["s.pkl", "s.pkl.gz", "s.pickle", "s.pt", "S.PKL"])
def test_a_pickle_is_never_read(tmp_path, name):
    class Harm:
        def __reduce__(self):
            return Path.touch, (tmp_path / "harm",)

    (tmp_path / name).write_bytes(pickle.dumps(Harm()))
    with pytest.raises(UserError, match=r"pickled files are never read.*Parquet or JSON lines"):
        read_scores(tmp_path / name)
    assert not (tmp_path / "harm").exists()


BAD_COLUMNS = [
    ({"query_id": ["1"], "score": [1.0]}, "no column doc_id or passage_id"),
    ({"doc_id": ["1"], "score": [1.0]}, "no column query_id"),
    ({"query_id": ["1"], "positive_id": ["1"], "negative_id": ["2"], "score": [1.0]}, "no column doc_id"),
    ({"query_id": ["1"], "doc_id": ["1"]}, "no column score"),
    ({"query_id": [None, "1"], "doc_id": ["1", "1"], "score": [1.0, 2.0]}, "'query_id' has 1 empty value"),
    ({"query_id": ["1"], "doc_id": [["1"]], "score": [1.0]}, "must both be lists"),
    (
        {"query_id": ["1", "2"], "doc_id": [["1"], ["1", "2"]], "score": [[1.0], [1.0]]},
        "row 2 has different numbers of scores and documents",
    ),
    ({"query_id": ["1"], "doc_id": [["1", None]], "score": [[1.0, 2.0]]}, "1 document id is empty"),
    ({"query_id": ["1"], "doc_id": [["1", "2"]], "score": [[1.0, None]]}, "1 score is NaN or infinite"),
    ({"query_id": [1.5], "doc_id": ["1"], "score": [1.0]}, "query ids must be strings or whole numbers"),
    ({"query_id": ["1"], "doc_id": ["1"], "score": ["high"]}, "scores must be numbers"),
    (
        {"query_id": pa.array([], "string"), "doc_id": pa.array([], "string"), "score": pa.array([], "float")},
        "no scores",
    ),
]


@pytest.mark.parametrize(("columns", "message"), BAD_COLUMNS)
def test_parquet_that_is_not_scores(tmp_path, columns, message):
    with pytest.raises(UserError, match=message):
        read_scores(parquet(tmp_path / "s.parquet", **columns))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("s.parquet", b"PAR1 and no more", "not a readable Parquet file"),
        ("s.jsonl.gz", b"no gzip", "damaged file: Not a gzipped file"),
        (
            "s.jsonl.gz",
            gzip.compress(json.dumps(MARCO[0]).encode() * 50, mtime=0)[:-20],
            "damaged file: Compressed file ended",
        ),
        ("s.jsonl", b"\xff\xfe\x00", r"s\.jsonl: .* is not utf-8; save it as UTF-8"),
        ("s.trec", b"q1 Q0 caf\xe9 1 0.5 x\n", r"s\.trec: byte 0xe9 at position 9 .* is not utf-8; save it as UTF-8"),
        ("s.trec", bytes(range(256)), r"s\.trec: .* is not utf-8"),
        ("s.jsonl", b"", "there are no scores in this file"),
        ("s.trec", b"", "there are no scores in this file"),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_scores(tmp_path / name)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"s\.parquet: no such file of scores"):
        read_scores(tmp_path / "s.parquet")


def asked(*rows: tuple[int, int], wanted: list[bool] | None = None) -> Pairs:
    """Pairs of queries 1, 2 and documents 10, 11, by their rows."""
    wanted = np.ones(len(rows), bool) if wanted is None else np.array(wanted)
    table = np.array(rows, np.int64).reshape(-1, 2)
    return Pairs(["1", "2"], ["one", "two"], ["10", "11"], ["ten", "eleven"], table, wanted)


@pytest.fixture
def teacher(tmp_path) -> score_files.PrecomputedTeacher:
    return score_files.load(text(tmp_path / "s.jsonl", *map(json.dumps, MARCO)))


def test_the_teacher_is_known_by_the_bytes_of_its_file(teacher, tmp_path):
    assert teacher.fingerprint == hashlib.sha256((tmp_path / "s.jsonl").read_bytes()).hexdigest()[:32]
    assert teacher.description == {"kind": "scores", "model": "s.jsonl", "pairs": 3}


def test_the_teacher_looks_wanted_pairs_up(teacher):
    ((positions, scores),) = teacher.score(asked((1, 0), (1, 1), (0, 1), (0, 0), wanted=[True, False, True, True]))
    assert positions.tolist() == [0, 2, 3]
    assert scores.tolist() == [0.25, -1.0, 2.5]
    assert scores.dtype == np.float32
    assert list(teacher.score(asked())) == []


def test_absent_pairs_are_refused_after_the_others_were_given(teacher):
    given_ = teacher.score(asked((1, 1), (0, 0)))
    positions, scores = next(given_)
    assert (positions.tolist(), scores.tolist()) == ([1], [2.5])
    with pytest.raises(UserError, match=r"1 of the candidates .* query '2' with document '11'; restrict"):
        next(given_)
    with pytest.raises(UserError, match="1 of the candidates"):
        next(teacher.score(asked((1, 1))))


def test_a_compressed_file_that_is_damaged_and_not_utf_8_is_refused(tmp_path):
    whole = gzip.compress(b'{"qid": 1, "pos": [{"pid": "\xe9", "ce-score": 1}]}\n' * 50)
    (tmp_path / "s.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"s\.jsonl\.gz: "):
        read_scores(tmp_path / "s.jsonl.gz")
