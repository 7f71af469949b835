"""``api:NAME`` as a reranker, against a real HTTP server: raw scores through the store, and faults."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from retrieval_distill import api
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from tests.llm.served import error, overlap, value
from tests.llm.test_embeddings import KEY, declared


@pytest.fixture
def data():
    words = ["file", "read", "write", "line", "open"]
    documents = {f"d{i}": " ".join(words[: i % 5 + 1]) + f" {i}" for i in range(8)}
    return {"documents": documents, "queries": {"q1": "read a file", "q2": "open line"}}


@pytest.fixture
def run(data):
    return Run.from_dict({query: dict.fromkeys(data["documents"], 0.0) for query in data["queries"]})


def expected(data, found):
    rows = found.frame.itertuples(index=False)
    return [overlap(data["queries"][query], data["documents"][document]) for query, document, _ in rows]


@pytest.mark.parametrize("speaks", ["v1", "tei"])
def test_raw_scores_reach_the_store_in_any_order(served, data, run, tmp_path, speaks, caplog):
    caplog.set_level(logging.INFO)
    teacher = api.load_teacher(declared(served, speaks=speaks, price_requests=2.0))
    found = api.score(run, data, teacher=teacher, store=tmp_path / "store")
    np.testing.assert_allclose(found.frame["score"], expected(data, found), rtol=1e-6)
    assert len(served.requests) == 4 and served.texts.total() == 16  # eight documents, four at a time
    assert "about 16 pairs in 4 requests: about" in caplog.text and "cost about 0.01" in caplog.text
    body = served.requests[0][1]
    assert body.get("raw_scores", True) is True and ("top_n" in body) == (speaks == "v1")
    api.score(run, data, teacher=teacher, store=tmp_path / "store")
    assert len(served.requests) == 4
    reranked = api.rerank(run, data, teacher=teacher, store=tmp_path / "store", depth=8)
    best = max(data["documents"], key=lambda id_: overlap(data["queries"]["q1"], data["documents"][id_]))
    assert reranked.select(["q1"]).top(1).frame["doc_id"].tolist() == [best]


def test_the_server_may_move_and_prices_may_change(served):
    marks = {
        api.load_teacher(declared(served, name="m", **options)).fingerprint
        for options in ({}, {"endpoint": "http://other/v1"}, {"price_in": 1.0}, {"timeout": 5.0}, {"batch": 9})
    }
    assert len(marks) == 1
    assert api.load_teacher(declared(served, name="m", max_characters=100)).fingerprint not in marks


def results(*pairs):
    return {"results": [{"index": index, "relevance_score": score} for index, score in pairs]}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (value(results((0, 1.0))), "1 result for 4 texts, with the indexes 0"),
        (value(results((0, 1.0), (0, 2.0), (1, 1.0), (9, 1.0))), "4 results for 4 texts, with the indexes 0, 0, 1, 9"),
        (value(results(*[(i, float("nan")) for i in range(4)])), "NaN or infinite"),
        (value(results(*[(i, None) for i in range(4)])), "the answer is not a reranking"),
        (value(b"<html>oops</html>"), "the answer is not a reranking: <html>oops"),
        (error(401, "who?"), "status 401: who?; check the API key (the environment variable COHERE_API_KEY)"),
        (error(413, "too many documents"), "lower max_characters, and batch"),
        (error(429, "slow down"), "in 2 attempts: status 429"),
        (
            error(422, "input longer than 512 tokens"),
            "input longer than 512 tokens; check the model name and the length",
        ),
    ],
    ids=["few", "order", "nan", "null", "html", "401", "413", "429", "context"],
)
def test_a_server_that_fails_is_told_of_and_nothing_is_lost(served, data, run, tmp_path, monkeypatch, fault, words):
    monkeypatch.setenv("COHERE_API_KEY", KEY)
    teacher = api.load_teacher(declared(served, concurrency=1, key_variable="COHERE_API_KEY"))
    served.faults.append(None)
    served.always = fault
    with pytest.raises(UserError) as failed:
        api.score(run, data, teacher=teacher, store=tmp_path / "store")
    assert words in str(failed.value) and "no scores for query 'q" in str(failed.value) and KEY not in str(failed.value)
    assert len(served.requests) <= 1 + 3 * 2
    served.always = None
    served.texts.clear()
    found = api.score(run, data, teacher=teacher, store=tmp_path / "store")
    assert served.texts.total() == 12 and set(served.texts.values()) == {1}  # all but the four that were answered
    np.testing.assert_allclose(found.frame["score"], expected(data, found), rtol=1e-6)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_documents_are_sent_back_only_where_a_server_wants_to(served, data, run, tmp_path, caplog):
    served.faults.append(error(422, "extra fields not permitted: return_documents"))
    teacher = api.load_teacher(declared(served, concurrency=1))
    api.score(run, data, teacher=teacher, store=tmp_path / "store")
    assert all("return_documents" not in body for _, body, _ in served.requests[1:]) and len(served.requests) == 5
