"""A language model over HTTP, against a real server that misbehaves."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter

import pytest

from retrieval_distill.config import GenerateConfig
from retrieval_distill.config.generate import QueryLLMConfig
from retrieval_distill.errors import UserError
from retrieval_distill.generate import blocks, ways
from retrieval_distill.generate.language_model import PROMPT, LanguageModel, parse_answer
from retrieval_distill.llm import client
from tests.teacher.test_llm_judge import FakeEndpoint, Handler, Server


class Writer(Handler):
    """Answers with the first words of the document, a line for each query asked for."""

    def do_POST(self):  # noqa: N802
        told = self.server.judge
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        document = re.search(r"Document: (.*)\n\nQueries:", body["messages"][0]["content"], re.S)[1]
        count = int(re.search(r"Write (\d+) ", body["messages"][0]["content"])[1])
        with told.lock:
            told.asked.append(document)
            told.bodies.append(body)
            fault = told.always.get(document) or (told.faults[document].pop(0) if told.faults[document] else None)
        lines = [f"{n}. {' '.join(document.split()[n : n + 3])}" for n in range(1, count + 1)]
        answer = {"message": {"content": "\n".join(lines)}, "finish_reason": "stop"}
        self.misbehave(fault) if fault is not None else self.send(200, {"choices": [answer]})


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(blocks, "SECONDS_PER_COMMIT", 0.0)
    server = Server(("127.0.0.1", 0), Writer)
    server.judge = FakeEndpoint(server.server_address[1])
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.judge
    server.shutdown()
    server.server_close()


def make(endpoint, corpus, folder, rate=2, **options):
    folder.mkdir(exist_ok=True)
    config = GenerateConfig(ways={"llm": rate}, llm={"endpoint": endpoint.url, "model": "m", **options})
    return blocks.generate_blocks(
        "llm", ways.build("llm", config, 7, corpus.documents), corpus.documents, rate, 7, folder
    )


def expected(document, count):
    return [" ".join(document.split()[n : n + 3]) for n in range(1, count + 1)]


def test_every_document_is_asked_once(endpoint, corpus, tmp_path, caplog):
    caplog.set_level("INFO", "retrieval_distill")
    endpoint.faults[corpus.documents["d3"]] = [(429, "slow", 0), b"<html>", "closes"]
    made = make(endpoint, corpus, tmp_path / "parts", price_in=1.0, price_out=2.0)
    for id_, found in made.groupby("doc_id"):
        assert found["query"].tolist() == expected(corpus.documents[id_], 2)
    assert made["doc_id"].drop_duplicates().tolist() == corpus.documents.ids
    asked = Counter(endpoint.asked)
    assert asked.pop(corpus.documents["d3"]) == 4 and set(asked.values()) == {1} and len(asked) == 39
    body = endpoint.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.7, 128)
    sent = sum(len(body["messages"][0]["content"]) for body in endpoint.bodies[:40]) / 4
    said = re.search(r"asking m at .* about 40 documents: about ([\d,]+) tokens in and 5,120 out, cost", caplog.text)
    assert abs(int(said[1].replace(",", "")) / sent - 1) < 0.05


def test_a_failed_document_costs_no_other_its_queries(endpoint, corpus, tmp_path):
    broken = corpus.documents["d20"]
    endpoint.always[broken] = (500, "no")
    with pytest.raises(UserError, match="no queries for 'd20' in 2 attempts: status 500: no; answers so far are kept"):
        make(endpoint, corpus, tmp_path / "parts", attempts=2)
    before = Counter(endpoint.asked)
    assert before.pop(broken) == 2 and set(before.values()) == {1} and len(before) >= 20
    endpoint.always.clear()
    endpoint.asked.clear()
    made = make(endpoint, corpus, tmp_path / "parts", attempts=2)
    assert len(endpoint.asked) == 40 - len(before) and not before.keys() & set(endpoint.asked)
    assert made.equals(make(endpoint, corpus, tmp_path / "fresh"))


def test_an_answer_without_a_query_is_counted_and_not_asked_again(endpoint, corpus, tmp_path, caplog):
    endpoint.always[corpus.documents["d1"]] = {"choices": [{"message": {"content": " \n```\n"}}]}
    made = make(endpoint, corpus, tmp_path / "parts")
    assert "1 of 40 answers hold no query" in caplog.text
    assert made.loc[made["query"].isna(), "doc_id"].tolist() == ["d1"]
    endpoint.asked.clear()
    make(endpoint, corpus, tmp_path / "parts")
    assert endpoint.asked == []


@pytest.mark.parametrize(
    ("answer", "queries"),
    [
        ("one two\nthree four", ["one two", "three four"]),
        ('1. "one  two"\n2) three\n- four\n* five', ["one two", "three", "four", "five"]),
        ("Query 1: one\nquestion 2: two\nSearch query: three", ["one", "two", "three"]),
        ("query: syntax of sql", ["syntax of sql"]),
        ("query 1 of the survey", ["query 1 of the survey"]),
        ("Here are two queries:\n\none\none\ntwo", ["one", "two"]),
        ('["one", {"query": "two"}, 3, {"text": "x"}]', ["one", "two"]),
        ('```json\n["one",\n "two"]\n```', ["one", "two"]),
        ('{"query": "one"}\n{"query": "two"}', ["one", "two"]),
        ("<think>1. no\n2. not yet</think>\nyes", ["yes"]),
        ("what is 3.5 mm", ["what is 3.5 mm"]),
        ("2024 budget of france", ["2024 budget of france"]),
        ("", []),
        (None, []),
    ],
)
def test_answers(answer, queries):
    assert parse_answer({"message": {"content": answer}}) == queries


@pytest.mark.parametrize(
    ("answer", "queries"),
    [
        ("[" * 5000, []),
        ("one two\n" + '{"a":' * 5000, ["one two"]),
        ("<think>" * 20_000 + "\none two", []),
        ("<think>" * 20_000 + "</think>one two", ["one two"]),
        ("one \ud800 two\nthree four", ["three four"]),
        (r'{"query": "one \ud800"}', []),
        ('"' * 140_000 + "x" + '"' * 140_000, ["x"]),
        ([{"type": "text", "text": "one two\n"}, {"type": "text", "text": "three"}], ["one two", "three"]),
        ("?!\n...", []),
    ],
    ids=lambda value: str(value)[:20],
)
def test_answers_out_of_bounds(endpoint, corpus, tmp_path, answer, queries, caplog):
    """What no model should say: read in little time, or refused and counted; what is left can be stored."""
    endpoint.always[corpus.documents["d1"]] = json.dumps({"choices": [{"message": {"content": answer}}]}).encode()
    made = make(endpoint, corpus, tmp_path / "parts")
    assert made.loc[made["doc_id"] == "d1", "query"].dropna().tolist() == queries[:2]
    assert ("1 of 40 answers hold no query" in caplog.text) == (not queries)


def test_a_model_that_repeats_the_instruction_gives_no_query_by_it(endpoint, corpus, tmp_path):
    """As one does that was not trained to follow instructions: it continues the prompt."""
    document = corpus.documents["d1"]
    echoed = PROMPT.format(document=document, count=8).replace("\n\nQueries:", "\n\nQueries: \nhow to do it\nhow to")
    echoed = f"write 8{echoed.removeprefix('Write 8')}"  # as a real one began
    endpoint.always[document] = {"choices": [{"message": {"content": echoed}, "finish_reason": "length"}]}
    made = make(endpoint, corpus, tmp_path / "parts", rate=8)
    found = made.loc[made["doc_id"] == "d1", "query"].tolist()
    assert "how to do it" in found and not [query for query in found if "search queries" in query]


def test_a_model_that_only_thinks_is_counted(endpoint, corpus, tmp_path, caplog):
    endpoint.always[corpus.documents["d1"]] = {"choices": [{"message": {"content": None, "reasoning": "one two"}}]}
    made = make(endpoint, corpus, tmp_path / "parts")
    assert "1 of 40 answers hold no query" in caplog.text and "thinks before it answers" in caplog.text
    assert made.loc[made["query"].isna(), "doc_id"].tolist() == ["d1"]
    assert max(body["max_tokens"] for body in endpoint.bodies) == 128 + 4096


def test_a_query_that_was_cut_off_is_left_out():
    assert parse_answer({"message": {"content": "one\ntwo\nthr"}, "finish_reason": "length"}) == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": None}, "needs generate.llm.endpoint and generate.llm.model"),
        ({"model": None}, "needs generate.llm.endpoint and generate.llm.model"),
        ({"prompt": "about {document}"}, "must contain {count}"),
        ({"price_in": 1.0}, "give both"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(UserError, match=message):
        LanguageModel.load(QueryLLMConfig(**{"endpoint": "http://host/v1", "model": "m", **options}))
