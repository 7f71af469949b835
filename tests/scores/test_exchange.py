"""Scores go out by ids and come in by ids; in between they are known by texts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.scores import exchange, score_files
from retrieval_distill.scores.exchange import export_run, import_scores
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher.scoring import score

QUERIES = Texts.from_records([("q1", "", "one"), ("q2", "", "two"), ("q3", "", "three")])
DOCUMENTS = Texts.from_records([("d1", "a", "b"), ("d2", "", "c"), ("d3", "", "a b"), ("d4", "", "e")])
"""d1 and d3 are the same text."""

RUN = Run.from_dict({"q1": {"d1": 1.5, "d2": -2.25}, "q3": {"d4": 0.1, "d2": 7.0}})


@pytest.fixture
def store(tmp_path) -> ScoreStore:
    return ScoreStore(tmp_path / "scores")


def saved(run: Run, path: Path) -> Path:
    run.save(path)
    return path


@pytest.mark.parametrize("name", ["out/run.parquet", "out/run.trec"])
def test_export_writes_a_row_for_each_id_of_a_text(store, tmp_path, name):
    asked, found = text_hashes(["one", "one", "two", "none"]), text_hashes(["a b", "c", "foreign", "c"])
    store.add("t", asked, found, np.array([1.5, 0.1, 3, 4]))
    store.add("t", asked[:1], found[:1], np.array([1.25]))  # the smallest score counts
    run = export_run(store, "t", QUERIES, DOCUMENTS, tmp_path / name)
    expected = {"q1": {"d1": 1.25, "d3": 1.25, "d2": float(np.float32(0.1))}}
    assert run.as_dict() == Run.load(tmp_path / name).as_dict() == expected


def test_export_of_nothing(store, tmp_path):
    with pytest.raises(UserError, match="no scores of teacher 't'; teachers here: none"):
        export_run(store, "t", QUERIES, DOCUMENTS, tmp_path / "x")
    store.add("t", np.array([1]), np.array([1]), np.array([1]))
    with pytest.raises(UserError, match="has scored no pair of this dataset"):
        export_run(store, "t", QUERIES, DOCUMENTS, tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["run.parquet", "run.trec"])
def test_import_then_export(store, tmp_path, name, monkeypatch):
    monkeypatch.setattr(exchange, "PAIRS_PER_SHARD", 3)
    path = saved(RUN, tmp_path / name)
    teacher, counts = import_scores(store, path, QUERIES, DOCUMENTS, {"model": "somebody's"})
    assert teacher == score_files.fingerprint(path)
    nothing = {"stored": 0, "left_out": 0, "unknown_queries": 0, "unknown_documents": 0, "contradicted": 0}
    assert counts == {"pairs": 4, "imported": 4, **nothing}
    assert store.description(teacher) == {"kind": "scores", "model": "somebody's", "pairs": 4}
    out = export_run(store, teacher, QUERIES, DOCUMENTS, tmp_path / "out.trec").as_dict()
    assert out["q1"] == {"d1": 1.5, "d3": 1.5, "d2": -2.25}
    assert out["q3"] == {"d4": float(np.float32(0.1)), "d2": 7.0}


def test_importing_again_stores_nothing(store, tmp_path):
    path = saved(RUN, tmp_path / "run.trec")
    teacher, _ = import_scores(store, path, QUERIES, DOCUMENTS, {})
    shards = store.shards(teacher)
    again, counts = import_scores(ScoreStore(store.root), path, QUERIES, DOCUMENTS, {})
    assert (again, counts["imported"], counts["stored"], store.shards(teacher)) == (teacher, 0, 4, shards)


def test_ids_that_the_dataset_lacks_are_counted_and_named(store, tmp_path, caplog):
    run = Run.from_dict({**RUN.as_dict(), "q9": {"d1": 1.0, "d8": 1.0}, "q2": {"d9": 1.0}})
    _, counts = import_scores(store, saved(run, tmp_path / "run.trec"), QUERIES, DOCUMENTS, {})
    assert counts == {
        "pairs": 7, "imported": 4, "stored": 0, "left_out": 3, "unknown_queries": 1, "unknown_documents": 2,
        "contradicted": 0,
    }  # fmt: skip
    assert "1 query id is not in the dataset: 'q9'" in caplog.text
    assert "2 document ids are not in the dataset: 'd8', 'd9'" in caplog.text
    assert store.teachers()[0]["pairs"] == 4


def test_scores_of_another_dataset_are_refused(store, tmp_path):
    path = saved(Run.from_dict({"x": {"d1": 1.0}, "q1": {"y": 1.0}}), tmp_path / "run.trec")
    with pytest.raises(
        UserError, match=r"none of its pairs is in this dataset \(its queries are like 'x'.* the dataset's like 'q1'"
    ):
        import_scores(store, path, QUERIES, DOCUMENTS, {})
    assert not store.root.exists()


def test_the_teacher_and_the_import_share_their_scores(store, tmp_path):
    path = saved(RUN, tmp_path / "run.parquet")
    scored, counts = score(RUN, QUERIES, DOCUMENTS, score_files.load(path), store)
    assert counts["scored"] == 4
    assert scored.as_dict() == RUN.with_scores(RUN.frame["score"].to_numpy(np.float32)).as_dict()
    assert import_scores(store, path, QUERIES, DOCUMENTS, {})[1]["imported"] == 0


def test_what_a_file_lacks_does_not_lose_what_it_has(store, tmp_path):
    path = saved(RUN, tmp_path / "run.parquet")
    wider = Run.from_dict({**RUN.as_dict(), "q2": {"d2": 0.0}})
    teacher = score_files.load(path)
    with pytest.raises(UserError, match="query 'q2' with document 'd2'; restrict the candidates"):
        score(wider, QUERIES, DOCUMENTS, teacher, store)
    assert store.teachers()[0]["pairs"] == 4
    assert score(RUN, QUERIES, DOCUMENTS, teacher, store)[1]["scored"] == 0


TWICE = Run.from_dict({"q1": {"d1": 5.0, "d2": 1.0, "d3": -3.0}})
"""d1 and d3 are equal texts under different scores."""


def test_equal_texts_keep_the_scores_that_a_file_gives_their_ids(store, tmp_path, caplog):
    path = saved(TWICE, tmp_path / "scores.trec")
    for _ in range(2):  # the second time, the store holds them
        scored, _ = score(TWICE, QUERIES, DOCUMENTS, score_files.load(path), store)
        assert scored.as_dict() == TWICE.as_dict()
    assert "1 pair has another score than pairs of equal texts, first query 'q1' with document" in caplog.text


def test_a_pair_that_the_file_lacks_has_the_score_of_equal_texts(store, tmp_path):
    path = saved(Run.from_dict({"q1": {"d1": 5.0}}), tmp_path / "scores.trec")
    asked = Run.from_dict({"q1": {"d1": 2.0, "d3": 1.0}})
    assert score(asked, QUERIES, DOCUMENTS, score_files.load(path), store)[0].as_dict()["q1"] == {"d1": 5.0, "d3": 5.0}


def test_an_import_counts_and_names_equal_texts_under_different_scores(store, tmp_path, caplog):
    path = saved(TWICE, tmp_path / "scores.trec")
    teacher, counts = import_scores(store, path, QUERIES, DOCUMENTS, {})
    assert (counts["pairs"], counts["imported"], counts["contradicted"]) == (3, 2, 1)
    assert "1 pair differs in score from a pair with the same texts" in caplog.text
    assert "first query 'q1' with document 'd3': -3, but 5 is kept" in caplog.text
    out = export_run(store, teacher, QUERIES, DOCUMENTS, tmp_path / "out.trec").as_dict()
    assert out == {"q1": {"d1": 5.0, "d3": 5.0, "d2": 1.0}}


PAIR = st.tuples(st.sampled_from(QUERIES.ids), st.sampled_from(["d1", "d2", "d4"]))
NUMBER = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=15, derandomize=True)
@given(scores=st.dictionaries(PAIR, NUMBER, min_size=1), ending=st.sampled_from(["parquet", "trec"]))
def test_what_goes_in_comes_out(scores, ending):
    distinct = DOCUMENTS.select(["d1", "d2", "d4"])
    run = Run.from_columns(*zip(*scores, strict=True), list(scores.values()))
    with tempfile.TemporaryDirectory() as folder:
        store, path = ScoreStore(folder), saved(run, Path(folder) / f"run.{ending}")
        teacher, _ = import_scores(store, path, QUERIES, distinct, {})
        export_run(store, teacher, QUERIES, distinct, Path(folder) / f"out.{ending}")
        assert Run.load(Path(folder) / f"out.{ending}").as_dict() == run.as_dict()
