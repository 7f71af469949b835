"""``feedback_to_dataset``: training queries, judgements and hard negatives of a log, and nothing of other splits."""

from __future__ import annotations

import json

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval_distill import api
from retrieval_distill.config import FeedbackConfig
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.feedback_queries import FILE
from retrieval_distill.errors import UserError
from retrieval_distill.feedback.log import Feedback, FeedbackLog, Search
from retrieval_distill.feedback.training_data import training_data
from tests.commands import command
from tests.feedback.test_log import tamper


@pytest.fixture(scope="module")
def library() -> Dataset:
    documents = [(f"d{n}", "", f"text number {n}") for n in range(8)]
    queries = [("t1", "how to sort"), ("x1", "read a file slowly"), ("v1", "the dev query")]
    judged = {"train": [("t1", "d1", 2)], "test": [("x1", "d2", 1)], "dev": [("v1", "d3", 1)]}
    return Dataset.from_records("library", documents, queries, judged)


@pytest.fixture
def log(tmp_path):
    with FeedbackLog.open(tmp_path / "feedback.db") as opened:
        yield opened


def ask(log, query: str, shown: list[str], *clicks: str, **judged: int) -> None:
    search = log.record_search(query=query, system="start", shown=shown)
    for doc_id in clicks:
        log.record_click(search_id=search, doc_id=doc_id)
    for doc_id, grade in judged.items():
        log.record_judgement(search_id=search, doc_id=doc_id, grade=grade)


def asked_of(log) -> None:
    """Two queries of its own, one of the training split's, one of the test split's, one of another corpus, one without a click."""
    ask(log, "join two lists", ["d0", "d4", "d5"], "d4")
    ask(log, "open a socket", ["d6", "d7"], d6=-1, d7=3)
    ask(log, "How to  SORT", ["d1", "d2", "d3"], "d2", d1=-1)
    ask(log, "slowly read a file", ["d0", "d2"], "d2")
    ask(log, "from elsewhere", ["e1", "e2"], "e1")
    ask(log, "nothing found", ["d0", "d1"])


def test_the_command_adds_them_to_the_training_split(log, library, tmp_path):
    from retrieval_distill.data.formats import beir

    asked_of(log)
    beir.save(library, tmp_path / "library")
    said = command("feedback-to-dataset", log.path, tmp_path / "library", "--out", tmp_path / "out")
    assert "3 queries, 3 relevant documents, 2 hard negatives" in said
    assert "2 x document that the corpus does not have, such as 'e1', 'e2'" in said
    assert "1 x query that a split asks which does not train, such as 'slowly read a file'" in said
    assert "1 x query without a relevant document, such as 'nothing found'" in said
    made = api.load_dataset(tmp_path / "out", cache=tmp_path)
    assert made.documents.fingerprint == library.documents.fingerprint
    assert {split: made.qrels(split) for split in ("dev", "test")} == {s: library.qrels(s) for s in ("dev", "test")}
    by_text = {made.queries[id_]: grades for id_, grades in made.qrels("train").items()}
    assert by_text == {
        "how to sort": {"d1": 2, "d2": 3},  # the split's own judgement of d1 stays
        "join two lists": {"d0": 0, "d4": 3},
        "open a socket": {"d6": 0, "d7": 3},
    }
    told = pd.read_parquet(tmp_path / "out" / FILE)
    assert set(told["query_id"]) == set(made.qrels("train"))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["queries"] == 3 and report["left_out"]["document that the corpus does not have"]["count"] == 2
    assert "searches, 6 different queries" in command("feedback-summary", log.path)


def test_the_log_decides_whether_it_is_made_again(log, library, tmp_path):
    def make(**options) -> bool:
        return api.feedback_to_dataset(log, library, out=tmp_path / "out", **options).manifest["skipped"]

    asked_of(log)
    rows = log.summary().rows
    assert [make(), make(), make(weight=3.0), make(eta=0.5), make(eta=0.5)] == [False, True, True, False, True]
    ask(log, "one more", ["d5"], "d5")
    assert [make(eta=0.5, rows=rows), make(eta=0.5), make(eta=0.5)] == [True, False, True]


def test_a_dataset_without_a_training_split_gets_one(log, library, tmp_path):
    bare = Dataset("bare", library.documents, library.queries.select([]))
    asked_of(log)
    made = api.feedback_to_dataset(log, bare, out=tmp_path / "out")
    assert [made.queries[id_] for id_ in made.qrels("train")] == [
        "join two lists",
        "open a socket",
        "How to SORT",
        "slowly read a file",
    ]


def test_a_document_in_passages_stands_for_the_nearest_one(log, tmp_path):
    passages = [("d#1", "", "about cats"), ("d#2", "", "about dogs and cows"), ("e", "", "about birds")]
    whole = Dataset.from_records("p", passages, [], {}).replace(
        parents=pa.chunked_array([pa.array(["d", "d", "e"], pa.large_string())])
    )
    ask(log, "dogs and cows please", ["e", "d"], "d")
    made = api.feedback_to_dataset(log, whole, out=tmp_path / "out")
    assert list(made.qrels("train").values()) == [{"e": 0, "d#2": 3}]


def test_what_cannot_be_learnt_from_is_refused_with_the_reason(log, library, tmp_path):
    def refused(message: str, **options) -> None:
        with pytest.raises(UserError, match=message):
            api.feedback_to_dataset(log, library, out=tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    refused("the log's 0 searches have no click or judgement")
    ask(log, "unseen", ["d0", "d1"])
    refused("the log's 1 search has no click or judgement")
    ask(log, "from elsewhere", ["e1", "e2"], "e1")
    refused("no query is left to learn from; left out: 2 x document that the corpus does not have")
    ask(log, "join two lists", ["d0", "d4", "d5"], "d4")
    refused("too few swapped searches", swaps=True)
    refused("min_click", min_click=2)
    tamper(log.path, "UPDATE events SET body = replace(body, 'd4', 'd5') WHERE kind = 'click' AND body LIKE '%d4%'")
    refused("feedback.db: row 5 is damaged.*on_bad skip")
    refused("no query is left", on_bad="skip")
    assert "no such feedback log" in command("feedback-summary", tmp_path / "none.db", code=2)
    assert "row 5" in command("feedback-to-dataset", log.path, "data/sample", "--out", tmp_path / "out", code=2)


DOCS = st.sampled_from([f"d{n}" for n in range(8)] + ["elsewhere"])
WORDS = st.sampled_from(["join two lists", "Join  two lists", "how to sort", "read a file slowly", "the dev query", "b", "c d"])  # fmt: skip


@st.composite
def logged(draw) -> Feedback:
    found = Feedback()
    for number in range(draw(st.integers(1, 8))):
        shown = draw(st.lists(DOCS, unique=True, min_size=1, max_size=6))
        some = st.lists(st.sampled_from(shown), unique=True)
        judged = {doc: draw(st.integers(-1, 3)) for doc in draw(some)}
        found.searches[f"{number}"] = Search(
            f"{number}", "", draw(WORDS), "s", tuple(shown), clicks=set(draw(some)), judgements=judged
        )
    return found


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(feedback=logged(), eta=st.floats(0, 2), caution=st.floats(0, 1.9), min_clicks=st.integers(1, 2))
def test_whatever_was_logged_only_training_queries_and_known_documents_come_out(
    feedback, eta, caution, min_clicks, library
):
    config = FeedbackConfig(eta=eta, caution=caution, min_clicks=min_clicks)
    try:
        told = training_data(feedback, library, "train", config).told
    except UserError as error:
        assert "left" in str(error) or "no click" in str(error)
        return
    assert not set(told["query"].str.lower()) & {"read a file slowly", "the dev query"}
    assert told["doc_id"].isin(library.documents.ids).all()
    assert not told.duplicated(["query_id", "doc_id"]).any()
    assert not ((told["query_id"] == "t1") & (told["doc_id"] == "d1")).any()
    assert told["grade"].between(0, 3).all() and told["value"].between(-1, 1).all()
    assert not ((told["grade"] > 0) & told["negative"]).any()
    by_clicks = told[told["judged"] == 0]
    assert (by_clicks.loc[by_clicks["grade"] > 0, "clicks"] >= min_clicks).all()
    assert (by_clicks.loc[by_clicks["negative"], "clicks"] == 0).all()
    useful = told.groupby("query_id")["grade"].max() > 0
    assert useful.drop("t1", errors="ignore").all()
