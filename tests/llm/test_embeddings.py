"""``api:NAME`` as a bi-encoder, against a real HTTP server: forms of requests and answers, faults, and equal measures."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from retrieval_distill import api, endpoints, models
from retrieval_distill.config import parse
from retrieval_distill.config.endpoint import APIConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.models import PACKAGED
from retrieval_distill.student import encoder
from tests.llm.served import error, value, vector

KEY = "sk-secret-0123456789"

TEXTS = {f"d{i}": f"text number {i}" for i in range(11)}


def declared(served, answers=None, name="vec", **options):
    """``api:vec`` at the server."""
    url = served.root if options.get("speaks") == "tei" else served.v1
    options = {"endpoint": url, "concurrency": 2, "batch": 4, "attempts": 2, **options}
    endpoints.declare({name: parse(APIConfig, options, "endpoint")}, answers)
    return f"api:{name}"


@pytest.mark.parametrize("form", ["base64", "floats", "reversed", "refused", "tei"])
def test_every_form_gives_the_same_vectors(served, tmp_path, form, caplog):
    served.floats, served.reversed = form == "floats", form == "reversed"
    if form == "refused":
        served.faults.append(error(400, "unknown field: encoding_format"))
        served.floats = True
    name = declared(served, speaks="tei" if form == "tei" else "v1", concurrency=1)
    made = api.embed(TEXTS, name, out=tmp_path / "vectors")
    np.testing.assert_array_equal(made.take(list(TEXTS)), np.stack([vector(text) for text in TEXTS.values()]))
    path, body, _ = served.requests[-1]
    if form == "tei":
        assert path == "/embed" and {"inputs", "truncate", "normalize"} == body.keys()
    else:
        assert path == "/v1/embeddings" and body["model"] == "vec"
        assert ("encoding_format" in body) == (form != "refused")
    if form == "refused":
        assert caplog.text.count("further requests are adapted") == 1


def test_the_cost_is_said_first_and_nothing_is_asked_twice(served, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    texts = {**TEXTS, "again": TEXTS["d0"]}
    name = declared(served, tmp_path / "answers", price_in=100.0, price_requests=50.0, query_prefix="query: ")
    api.embed(texts, name, out=tmp_path / "vectors")
    characters = sum(map(len, TEXTS.values()))
    cost = 3 * 50 / 1000 + characters // 4 * 100 / 1e6
    line = f"asking vec at {served.v1} about 11 documents in 3 requests: about {characters // 4} tokens in, cost about "
    assert f"{line}{cost:.2f}, 2 requests at a time" in caplog.messages
    assert served.texts == dict.fromkeys(TEXTS.values(), 1)
    index = api.index(tmp_path / "vectors")
    for _ in range(2):
        found = api.search(["number 3"], index, model=name, depth=3)
    assert served.texts["query: number 3"] == 1 and len(found) == 3
    api.embed({**texts, "new": "another"}, name, out=tmp_path / "elsewhere")
    assert served.texts.total() == 13 and set(served.texts.values()) == {1}
    declared(served, tmp_path / "answers", model="other")  # another model's answers are others
    api.embed(["text number 0"], name, out=tmp_path / "other")
    assert served.texts["text number 0"] == 2


def test_prefixes_fields_and_cuts_are_sent_and_known_by_the_fingerprint(served, tmp_path):
    options = {"query_prefix": "Q: ", "query_fields": {"input_type": "search_query"}, "max_characters": 100}
    name = declared(served, **options)
    marks = {models.fingerprint(name)}
    api.embed({"long": "word " * 100}, name, out=tmp_path / "vectors")
    assert served.requests[-1][1]["input"] == [("word " * 100)[:100]]
    assert "input_type" not in served.requests[-1][1]
    api.search(["hello"], api.index(tmp_path / "vectors"), model=name)
    assert served.requests[-1][1]["input"] == ["Q: hello"]
    assert served.requests[-1][1]["input_type"] == "search_query"
    for change in ({"query_prefix": "R: "}, {"max_characters": 200}, {"model": "m"}, {"query_fields": {}}):
        declared(served, **(options | change))
        marks.add(models.fingerprint(name))
    assert len(marks) == 5
    declared(served, **options, concurrency=7, price_in=3.0, key_variable="OTHER_KEY")
    assert models.fingerprint(name) in marks


def test_the_measures_of_a_served_model_are_those_of_the_model(served, dataset, tmp_path):
    model = encoder.load(PACKAGED, "float32")
    served.vectors = lambda texts: list(encoder.encode(model, texts, "document"))
    name, runs, queries = declared(served, batch=32), {}, dataset.queries("test")
    for system, of in {"local": PACKAGED, "served": name}.items():
        index = api.index(api.embed(dataset, of, out=tmp_path / system, dtype="float32"))
        runs[system] = api.search(queries, index, model=of, dtype="float32", depth=20)
    report = api.evaluate(runs, dataset.qrels("test"), measures=["nDCG@10", "RR@10", "R@20"])
    for measure in ("nDCG@10", "RR@10", "R@20"):
        assert report["served"][measure].mean == report["local"][measure].mean > 0
    both = runs["local"].frame.merge(runs["served"].frame, on=["query_id", "doc_id"])
    assert len(both) == len(runs["local"])
    np.testing.assert_allclose(both["score_x"], both["score_y"], atol=1e-6)


def embedding(*values):
    return {"data": [{"index": i, "embedding": list(v)} for i, v in enumerate(values)]}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (value(embedding([1.0] * 4)), "1 result for 2 texts"),
        (value({"data": [{"index": 0, "embedding": [1.0]}] * 2}), "2 results for 2 texts, with the indexes 0, 0"),
        (value(embedding([1.0, float("nan")], [1.0, 2.0])), "NaN or infinite"),
        (value(embedding([1.0, None], [1.0, 2.0])), "the answer is not embeddings"),
        (value(embedding([1.0], [1.0, 2.0])), "vectors of several lengths"),
        (value(b"<html>please log in</html>"), "the answer is not embeddings: <html>please log in"),
        (error(401, f"bad key {KEY}"), "status 401: bad key ***; check the API key (the environment variable MY_KEY)"),
        (error(413, "too large"), "and a retry would not help: status 413: too large; send less in a request: lower max"),
        (error(400, "maximum context length is 512 tokens"), "maximum context length is 512 tokens; check the model name"
         " and the length of what is sent (max_characters)"),
        (error(429, "slow down"), "in 2 attempts: status 429: slow down"),
    ],
    ids=["few", "order", "nan", "null", "ragged", "html", "401", "413", "context", "429"],
)  # fmt: skip
def test_a_server_that_fails_is_told_of_and_nothing_is_lost(served, tmp_path, monkeypatch, caplog, fault, words):
    caplog.set_level(logging.DEBUG, "retrieval_distill")
    monkeypatch.setenv("MY_KEY", KEY)
    name = declared(served, tmp_path / "answers", batch=2, concurrency=1, key_variable="MY_KEY")
    served.faults += [None, None]  # two requests are answered
    served.always = fault
    with pytest.raises(UserError) as failed:
        api.embed(TEXTS, name, out=tmp_path / "vectors")
    assert words in str(failed.value) and "vectors of documents such as 'text number" in str(failed.value)
    assert "answers so far are kept" in str(failed.value)
    assert len(served.requests) <= 2 + 4 * 2  # never without end
    assert {authorization for _, _, authorization in served.requests} == {f"Bearer {KEY}"}
    kept = {text for _, body, _ in served.requests[:2] for text in body["input"]}
    served.always = None
    served.texts.clear()
    api.embed(TEXTS, name, out=tmp_path / "vectors")
    assert not kept & served.texts.keys() and len(served.texts) == 8
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written and KEY not in caplog.text + str(failed.value)


def test_retry_after_is_obeyed(served, tmp_path):
    served.faults += [error(429, "wait", Retry_After="0.2"), None]
    name = declared(served, batch=11, concurrency=1)
    assert len(api.embed(TEXTS, name, out=tmp_path / "vectors")) == 11
    assert len(served.requests) == 3  # a document for the storage, refused once; and all of them


def test_another_model_behind_the_name_is_noticed(served, tmp_path):
    name = declared(served, concurrency=1)
    served.faults += [None, None, value(embedding(*[[1.0, 2.0]] * 4))]
    with pytest.raises(UserError, match=r"gave vectors of (24 and of 2|2 and of 24) dimensions"):
        api.embed(TEXTS, name, out=tmp_path / "vectors")


def test_a_name_that_nothing_stands_for(served, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"no endpoints\.vex; declare it there, or in the YAML file"):
        api.embed(["a"], "api:vex", out=tmp_path / "vectors")
    declared(served)
    with pytest.raises(UserError, match=r"no endpoints\.vex; did you mean 'vec'"):
        models.check("api:vex")
    with pytest.raises(UserError, match="answers on a server: it can be a teacher"):
        encoder.load("api:vec")
    (tmp_path / "endpoints.yaml").write_text(f"vex: {{endpoint: '{served.v1}'}}\n")
    monkeypatch.setenv(endpoints.VARIABLE, str(tmp_path / "endpoints.yaml"))
    assert len(api.embed(["a"], "api:vex", out=tmp_path / "vectors")) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"endpoint": "http://user:secret-word@host/v1"}, "without user, password"),
        ({"endpoint": None}, r"endpoints\.vec\.endpoint is missing"),
        ({"key_variable": "sk-secret-word"}, "name of an environment variable, in capitals"),
        ({"speaks": "klingon"}, "speaks"),
    ],
)
def test_options_that_cannot_work(served, options, words):
    with pytest.raises(UserError, match=words) as failed:
        models.check(declared(served, **options))
    assert "secret-word" not in str(failed.value)


def test_local_options_are_refused(served, tmp_path):
    name = declared(served)
    with pytest.raises(UserError, match="computes on its server"):
        api.embed(["a"], name, out=tmp_path / "vectors", backend="onnx")


def test_a_damaged_file_of_answers_says_so(served, tmp_path):
    name = declared(served, tmp_path)
    (tmp_path / "vec.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(UserError, match=r"vec\.sqlite: the answers of an endpoint cannot be kept or read there"):
        api.embed(["a"], name, out=tmp_path / "vectors")


def test_vectors_of_an_endpoint_teach(served, tmp_path):
    from retrieval_distill.config import parse_recipe
    from retrieval_distill.training.teacher_vectors import teacher_vectors

    name = declared(served)
    recipe = parse_recipe({"name": "r", "embedding_teacher": {"model": name}})
    queries, documents = Texts.of({"q": "a question"}), Texts.of(TEXTS)
    found = teacher_vectors(recipe, queries, documents, tmp_path)
    np.testing.assert_array_equal(found.take("query", ["q"]), vector("a question")[None])
    assert len(Embeddings.open(tmp_path / "documents")) == 11
