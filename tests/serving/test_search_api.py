"""``/search`` and what belongs to it, asked of a real server: the answers are the searcher's, the feedback is the log's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.search.searcher import Searcher

QUERY = "split root extension"


def search(served, **body) -> dict:
    found = served.post("/search", body)
    assert found.status_code == 200, found.text
    return found.json()


def test_the_systems_and_fields_are_told(served):
    with served.client() as client:
        told = client.get("/systems").json()
    assert [system["name"] for system in told["systems"]] == ["student", "hybrid-student", "bm25"]
    assert [system["trained"] for system in told["systems"]] == [True, True, False]
    assert [system["hybrid"] for system in told["systems"]] == [False, True, False]
    assert told["default"] == "hybrid-student" and told["rerank"] and told["feedback"] and told["docs"] == 60
    assert {"name": "tags", "type": "list"} in told["fields"]


def test_the_hits_are_the_searchers(served, finished_run):
    own = Searcher.open(finished_run)(QUERY, depth=7)
    found = search(served, query=QUERY, depth=7)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in own]
    assert [hit["snippet"] for hit in found["hits"]] == [hit.snippet for hit in own]
    np.testing.assert_allclose([hit["score"] for hit in found["hits"]], [hit.score for hit in own], atol=1e-5)
    assert found["system"] == "hybrid-student" and found["query"] == QUERY and found["total"] == 60
    assert set(found["milliseconds"]) == {"encode", "search", "rerank", "total"}


def test_parts_and_highlights(served):
    found = search(served, query=QUERY, depth=60)["hits"]
    for hit in found:
        words = [hit["snippet"][start:end].lower() for start, end in hit["highlights"]]
        assert set(words) <= set(QUERY.split())
    dense = {hit["id"]: hit["parts"]["dense"] for hit in found}
    alone = search(served, query=QUERY, depth=60, system="student")["hits"]
    assert [dense[hit["id"]] for hit in alone] == [{"score": hit["score"], "rank": hit["rank"]} for hit in alone]
    words = search(served, query=QUERY, depth=60, system="bm25")["hits"]
    assert 0 < len(words) < 60
    placed = {hit["id"]: hit["parts"]["bm25"]["rank"] for hit in found if hit["parts"]["bm25"]}
    assert placed == {hit["id"]: hit["rank"] for hit in words}
    assert all(hit["parts"]["dense"] is None and hit["parts"]["teacher"] is None for hit in words)


def test_pages_follow_each_other(served):
    whole = search(served, query=QUERY, depth=30)["hits"]
    pages = [search(served, query=QUERY, depth=10, offset=at)["hits"] for at in (0, 10, 20)]
    assert [hit for page in pages for hit in page] == whole
    assert search(served, query=QUERY, offset=60)["hits"] == []


@pytest.mark.parametrize("system", ["student", "hybrid-student", "bm25"])
def test_a_filter_holds(served, system):
    where = {"and": [{"field": "year", "op": ">=", "value": 2007}, {"field": "meta.source", "op": "=", "value": "NIH"}]}
    found = search(served, query=QUERY, where=where, depth=20, system=system)
    assert found["total"] == 12 and found["hits"]
    for hit in found["hits"]:
        assert hit["metadata"]["year"] in (2007, 2009) and hit["metadata"]["meta"]["source"] == "NIH"
    assert search(served, query=QUERY, where={"field": "year", "op": "<", "value": 0})["hits"] == []


def test_reranking_is_the_teachers_order(served, finished_run):
    plain = search(served, query=QUERY, depth=40)["hits"]
    found = search(served, query=QUERY, depth=40, rerank=True)
    hits, engine = found["hits"], served.service.engine
    texts = dict(zip(engine.dataset.documents.ids, engine.dataset.documents.take(), strict=True))
    scores = dict(
        zip(ids := [hit["id"] for hit in plain[:30]], engine.scores([(QUERY, texts[id_]) for id_ in ids]), strict=True)
    )
    assert [hit["id"] for hit in hits[:30]] == sorted(ids, key=lambda id_: -scores[id_])
    assert [hit["id"] for hit in hits[30:]] == [hit["id"] for hit in plain[30:]]
    np.testing.assert_allclose([hit["score"] for hit in hits[:30]], [scores[hit["id"]] for hit in hits[:30]], atol=1e-5)
    assert [hit["parts"]["teacher"]["rank"] for hit in hits[:30]] == list(range(1, 31))
    assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)


def test_more_like_a_document(served, finished_run):
    found = search(served, like="d3", system="student", depth=5)["hits"]
    searcher = served.service.engine.systems["student"].searcher
    vector = served.service.engine.encoders["student"].of_documents([searcher.dataset.documents["d3"]])[0][0]
    _, ids = searcher.index.search(vector[None], 6)
    assert ids[0, 0] == "d3" and [hit["id"] for hit in found] == ids[0, 1:].tolist()
    assert [hit["rank"] for hit in found] == [1, 2, 3, 4, 5]


def test_what_is_shown_and_clicked_is_logged(served):
    path = served.service.log.path
    found = search(served, query=QUERY, depth=3, session="me")
    id_ = found["search_id"]
    shown = [hit["id"] for hit in found["hits"]]
    assert served.post("/feedback", {"search_id": id_, "doc_id": shown[1], "kind": "click"}).status_code == 204
    judged = {"search_id": id_, "doc_id": shown[0], "kind": "judgement", "grade": 3}
    assert served.post("/feedback", judged).status_code == 204
    with FeedbackLog.open(path) as log:
        kept = log.read().searches[id_]
    assert (kept.query, kept.system, list(kept.shown), kept.session) == (QUERY, "hybrid-student", shown, "me")
    assert kept.clicks == {shown[1]} and kept.judgements == {shown[0]: 3}
    for wrong in ({"search_id": "nothing"}, {"doc_id": "d-1"}):
        assert served.post("/feedback", {**judged, **wrong}).status_code == 400
    assert served.post("/feedback", {**judged, "grade": 4}).status_code == 422
    assert served.post("/feedback", {**judged, "kind": "click"}).status_code == 422


def test_two_systems_are_interleaved(served):
    found = search(served, query=QUERY, interleave=["student", "bm25"], depth=8)
    with FeedbackLog.open(served.service.log.path) as log:
        kept = log.read().searches[found["search_id"]]
    assert (kept.system, kept.against) == ("student", "bm25") and set(kept.teams) <= {"first", "second", "neither"}
    assert list(kept.shown) == [hit["id"] for hit in found["hits"]] and "teams" not in json.dumps(found)
    best = [search(served, query=QUERY, system=name)["hits"][0]["id"] for name in ("student", "bm25")]
    assert set(best) <= set(kept.shown[:2])


def test_two_systems_are_compared_blind_and_named_afterwards(served):
    seen = set()
    for _ in range(12):
        found = served.post("/compare", {"query": QUERY, "systems": ["student", "bm25"], "depth": 3}).json()
        assert "student" not in json.dumps(found) and "system" not in found["left"]
        sides = {side: found[side]["search_id"] for side in ("left", "right")}
        names = served.post("/preference", {**sides, "preferred": "left"}).json()
        assert sorted(names.values()) == ["bm25", "student"]
        for side in ("left", "right"):
            own = search(served, query=QUERY, system=names[side], depth=3)["hits"]
            assert [hit["id"] for hit in own] == [hit["id"] for hit in found[side]["hits"]]
        seen.add(names["left"])
    assert seen == {"bm25", "student"}
    with FeedbackLog.open(served.service.log.path) as log:
        assert len(log.read().preferences) >= 12
    swapped = {"left": sides["right"], "right": sides["left"], "preferred": "tie"}
    assert served.post("/preference", swapped).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"query": " "}, 400, "the query is empty"),
        ({}, 422, "give query, or like"),
        ({"query": "a", "like": "d1"}, 422, "give query, or like"),
        ({"query": 3}, 422, "query"),
        ({"query": "a", "depth": 0}, 422, "depth"),
        ({"query": "a", "depth": 101}, 422, "depth"),
        ({"query": "a", "depth": "5"}, 422, "depth"),
        ({"query": "a", "dept": 5}, 422, "dept"),
        ({"query": "a", "system": "studnet"}, 400, "did you mean 'student'"),
        ({"like": "nothing"}, 400, "there is no document 'nothing'"),
        ({"query": "a", "where": {"field": "yaer", "op": "=", "value": 2}}, 400, "did you mean 'year'"),
        ({"query": "a", "where": {"field": "year", "op": "; DROP", "value": 2}}, 422, "where"),
        ({"query": "a", "where": "year = 2000"}, 422, "where"),
        ({"query": "a", "where": {"and": []}}, 422, "where"),
        ({"query": "a\ud800"}, 400, "lone surrogate"),
        ({"query": "a", "interleave": ["student", "bm25"], "offset": 3}, 422, "interleave"),
    ],
)
def test_what_cannot_be_answered_is_told(served, body, status, told):
    with served.client() as client:
        found = client.post("/search", content=json.dumps(body), headers={"content-type": "application/json"})
    assert found.status_code == status, found.text
    error = found.json()
    assert told in error["error"] and error["error_type"] == "Validation"


def test_many_questions_at_once_are_each_answered_as_alone(served):
    """Vectors of questions that share a batch are those of each alone, to the last bit; so are the scores."""
    engine = served.service.engine
    queries = engine.dataset.queries
    encoder = engine.encoders["student"]
    together = encoder.queries(queries.take())
    for vector, text in zip(together, queries.take(), strict=True):
        assert np.array_equal(vector, encoder.queries([text])[0])
