"""The LLM judge against a real HTTP server that answers from the texts, and misbehaves on purpose."""

from __future__ import annotations

import json
import logging
import math
import re
import socket
import sys
import threading
import time
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from retrieval_distill import api
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.llm import client
from retrieval_distill.scores.teacher_contract import Pairs
from retrieval_distill.teacher import llm_judge

KEY = "sk-secret-0123456789"


def overlap(query, document):
    return len(set(query.split()) & set(document.split()))


def expected(query, document):
    """The log-odds that the server's probabilities below amount to."""
    return math.log(overlap(query, document) + 1)


def log_odds_answer(query, document):
    n = overlap(query, document)
    yes, no = 0.9 * (n + 1) / (n + 2), 0.9 / (n + 2)
    return logprobs(
        {"Yes": 0.7 * yes, " yes": 0.2 * yes, "YES\n": 0.1 * yes, "No": 0.6 * no, " no": 0.4 * no, "Or": 0.1}
    )


def graded_answer(query, document):
    return {"message": {"content": f" {min(overlap(query, document), 4)}\n"}}


def logprobs(probabilities):
    top = [{"token": token, "logprob": math.log(p) if p else -9999.0} for token, p in probabilities.items()]
    return {"message": {"content": "yes"}, "logprobs": {"content": [{"token": "yes", "top_logprobs": top}]}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        judge = self.server.judge
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pair = re.search(r"Query: (.*?)\n\nDocument: (.*)\n\n", body["messages"][0]["content"], re.S).groups()
        with judge.lock:
            judge.asked.append((pair, time.monotonic()))
            judge.bodies.append(body)
            judge.keys.append(self.headers["Authorization"])
            judge.busy += 1
            judge.busiest = max(judge.busiest, judge.busy)
            fault = judge.always.get(pair) or (judge.faults[pair].pop(0) if judge.faults[pair] else None)
        time.sleep(judge.seconds)
        if judge.path_is_wrong(self.path):
            fault = (404, "no such path")
        with judge.lock:  # before the answer: the client may ask again as soon as it has that
            judge.busy -= 1
        self.misbehave(fault) if fault is not None else self.send(200, {"choices": [judge.answer(*pair)]})

    def send(self, status, value, length_error=0, **headers):
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, header in {"Content-Length": len(body) + length_error, **headers}.items():
            self.send_header(name.replace("_", "-"), str(header))
        self.end_headers()
        self.wfile.write(body)

    def misbehave(self, fault):
        whole = json.dumps({"choices": [log_odds_answer("", "")]}).encode()
        if isinstance(fault, tuple):
            status, message, *wait = fault
            self.send(status, {"error": {"message": message}}, **({"Retry_After": wait[0]} if wait else {}))
        elif fault == "closes":
            self.close_connection = True
        elif fault == "half":
            self.close_connection = True
            self.send(200, whole[: len(whole) // 2], length_error=len(whole) - len(whole) // 2)
        elif fault == "silent":
            time.sleep(0.6)
        else:
            self.send(200, fault)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *args):  # a client that gave up
        pass


class FakeEndpoint:
    """What the server is told to do, and what it saw."""

    def __init__(self, port):
        self.url = f"http://127.0.0.1:{port}/v1"
        self.lock = threading.Lock()
        self.answer, self.seconds = log_odds_answer, 0.0
        self.faults, self.always = defaultdict(list), {}
        self.asked, self.bodies, self.keys = [], [], []
        self.busy = self.busiest = 0

    def path_is_wrong(self, path):
        return path != "/v1/chat/completions"

    def times(self):
        return Counter(pair for pair, _ in self.asked)


@pytest.fixture
def endpoint(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    server = Server(("127.0.0.1", 0), Handler)
    server.judge = FakeEndpoint(server.server_address[1])
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.judge
    server.shutdown()
    server.server_close()


@pytest.fixture
def pairs():
    """Every query with every document: overlaps of 0 to 3 words; the last pair is not wanted."""
    queries = ["sort a list", "open file", "join path parts"]
    documents = ["sort the list in place", "a file to open", "the parts of a path join here", "nothing", "list"]
    rows = np.array([(q, d) for q in range(3) for d in range(5)])
    wanted = np.arange(15) < 14
    assert {overlap(q, d) for q in queries for d in documents} == {0, 1, 2, 3}
    return Pairs(["q0", "q1", "q2"], queries, [f"d{i}" for i in range(5)], documents, rows, wanted)


def collect(judge, pairs):
    """Scores by position, and the error that ended them."""
    scores = {}
    try:
        for positions, values in judge.score(pairs):
            assert values.dtype == np.float32 and len(positions) == len(values) > 0
            assert not scores.keys() & set(positions.tolist())
            scores |= dict(zip(positions.tolist(), values.tolist(), strict=True))
    except UserError as error:
        return scores, str(error)
    return scores, None


def assert_right(scores, pairs, without=()):
    right = {int(i): expected(*pairs.texts(i)) for i in pairs.positions if i not in without}
    assert scores == pytest.approx(right, abs=1e-5)


def test_every_pair_is_asked_once_and_gets_its_score(endpoint, pairs):
    endpoint.seconds = 0.02
    scores, error = collect(llm_judge.load("m", endpoint.url + "/", concurrency=3), pairs)
    assert error is None
    assert_right(scores, pairs)
    assert endpoint.times() == Counter(pairs.texts(i) for i in pairs.positions)
    assert endpoint.busiest == 3
    body = endpoint.bodies[0]
    del body["messages"]
    assert body == {"model": "m", "temperature": 0, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}


def test_nothing_wanted_asks_nothing(endpoint, pairs):
    assert collect(llm_judge.load("m", endpoint.url), pairs.only(np.array([], int))) == ({}, None)
    assert not endpoint.asked


@pytest.mark.parametrize(
    "fault",
    [
        (408, "slow"), (409, "conflict"), (429, "slow down", 0), (500, "oops"), (503, "loading", 0), "closes", "half",
        b"<html>502</html>", b"", b"\xff\xfe", [], {"choices": []}, {"choices": [{"logprobs": {"content": []}}]},
        {"choices": [{"logprobs": {"content": [{"top_logprobs": [{"token": "yes"}]}]}}]},
        {"choices": [logprobs({"<think>": 0.9})]}, {"choices": [logprobs({"yes": 0.0})]},
    ],
    ids=str,
)  # fmt: skip
def test_a_fault_that_passes_is_asked_again(endpoint, pairs, fault):
    faulty = pairs.texts(1)
    endpoint.faults[faulty] = [fault, fault]
    scores, error = collect(llm_judge.load("m", endpoint.url, attempts=3), pairs)
    assert error is None
    assert_right(scores, pairs)
    assert endpoint.times() == Counter(pairs.texts(i) for i in pairs.positions) + Counter({faulty: 2})


def test_a_server_that_says_nothing(endpoint, pairs):
    endpoint.faults[pairs.texts(1)] = ["silent"]
    scores, error = collect(llm_judge.load("m", endpoint.url, timeout=0.2), pairs)
    assert error is None
    assert_right(scores, pairs)
    assert endpoint.times()[pairs.texts(1)] == 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(endpoint, pairs, status):
    endpoint.faults[pairs.texts(0)] = [(status, "wait", 0.4)]
    collect(llm_judge.load("m", endpoint.url), pairs.only(np.array([0])))
    (_, first), (_, second) = endpoint.asked
    assert 0.4 <= second - first < 1.5


def test_retry_after_as_a_date_or_nonsense():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < client._retry_after(later) <= 30
    assert [client._retry_after(text) for text in ("", "soon", "nan", "-3")] == [0, 0, 0, 0]


def test_connection_refused(endpoint, pairs):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: nobody else can answer there
        judge = llm_judge.load("m", f"http://127.0.0.1:{unused.getsockname()[1]}/v1", attempts=2, concurrency=1)
        scores, error = collect(judge, pairs)
    assert scores == {}
    assert re.search("no score for query 'q0' and document 'd0' in 2 attempts: ConnectError", error)


@pytest.mark.parametrize(
    ("status", "check"),
    [
        (400, "model name"),
        (401, "OPENAI_API_KEY"),
        (403, "may use this model"),
        (404, "endpoint"),
        (422, "max_characters"),
    ],
)
def test_a_refusal_ends_it_at_once(endpoint, pairs, status, check):
    endpoint.always[pairs.texts(2)] = (status, f"Bad\nkey {KEY} given. " + "words " * 100)
    scores, error = collect(llm_judge.load("m", endpoint.url, api_key=KEY, concurrency=1), pairs)
    assert_right(scores, pairs, without=set(range(14)) - scores.keys())
    assert {0, 1} <= scores.keys() and len(scores) < 6
    assert endpoint.times()[pairs.texts(2)] == 1
    assert f"status {status}: Bad key *** given." in error and check in error
    assert "query 'q0' and document 'd2'" in error and "answers so far are kept" in error
    assert KEY not in error and "\n" not in error and len(error) < 600 and error.count("words") < 40


def test_answers_under_way_are_kept_when_another_pair_fails(endpoint, pairs):
    endpoint.always[pairs.texts(2)] = (401, "no")

    def answer(*pair):
        time.sleep(0.3)
        return log_odds_answer(*pair)

    endpoint.answer = answer
    scores, error = collect(llm_judge.load("m", endpoint.url, concurrency=3), pairs)
    assert "status 401" in error
    assert {0, 1} <= scores.keys() <= {0, 1, 3}  # the free thread may have taken the next pair
    assert_right(scores, pairs, without=set(range(14)) - scores.keys())
    assert len(endpoint.asked) == len(scores) + 1


def test_a_failed_pair_costs_no_other_pair_its_score(endpoint, dataset, tmp_path):
    run = Run.from_dict({f"q{i}": {f"d{j}": 1.0 for j in range(i, i + 3)} for i in range(8)})

    def score():
        judge = llm_judge.load("m", endpoint.url, attempts=2, concurrency=2)
        return api.score(run, dataset, teacher=judge, store=tmp_path / "s")

    broken = dataset.queries["q5"], dataset.documents["d6"]
    endpoint.always[broken] = b"broken"
    with pytest.raises(
        UserError, match=r"query 'q5' and document 'd6' in 2 attempts: .*broken; answers so far are kept"
    ):
        score()
    before = endpoint.times()
    assert before.pop(broken) == 2 and set(before.values()) == {1} and len(before) >= 10
    endpoint.always.clear()
    endpoint.asked.clear()
    scored = score()
    counts = scored.facts
    assert (counts["pairs"], counts["scored"], counts["stored"]) == (24, 24 - len(before), len(before))
    assert not endpoint.times().keys() & before.keys()
    assert len(endpoint.asked) == counts["scored"]
    for query, document, value in scored.frame.itertuples(index=False):
        assert value == pytest.approx(expected(dataset.queries[query], dataset.documents[document]), abs=1e-5)


def test_few_pairs_are_handed_out_ahead(endpoint, pairs):
    scores = llm_judge.load("m", endpoint.url, concurrency=2).score(pairs)
    next(scores)
    time.sleep(0.15)
    assert len(endpoint.asked) == 4
    scores.close()


def test_nothing_goes_on_after_the_caller_leaves(endpoint, pairs, monkeypatch):
    monkeypatch.setattr(client, "QUEUE_PER_THREAD", 10)
    monkeypatch.setattr(client, "FIRST_WAIT", 8.0)
    endpoint.seconds = 0.05
    endpoint.always[pairs.texts(1)] = (500, "no")
    scores = llm_judge.load("m", endpoint.url, concurrency=2, attempts=2).score(pairs)
    next(scores)
    start = time.monotonic()
    scores.close()
    assert time.monotonic() - start < 5
    assert len(endpoint.asked) <= 5


def test_the_key_is_sent_and_never_shown(endpoint, pairs, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    judge = llm_judge.load("m", endpoint.url, attempts=2)
    endpoint.always[pairs.texts(13)] = (500, f"your key is {KEY}")
    _, error = collect(judge, pairs)
    assert set(endpoint.keys) == {f"Bearer {KEY}"}
    assert "your key is ***" in error and KEY not in error
    assert "asking m at" in caplog.text and KEY not in caplog.text
    assert KEY not in repr(judge) + json.dumps(judge.description) + judge.fingerprint
    endpoint.keys.clear()
    collect(llm_judge.load("m", endpoint.url, api_key=""), pairs.only(np.array([0])))
    assert endpoint.keys == [None]


def test_the_cost_is_said_before_asking(endpoint, pairs, caplog):
    caplog.set_level(logging.INFO, "retrieval_distill")
    prompt = "Query: {query}\n\nDocument: {document}\n\n"
    judge = llm_judge.load("m", endpoint.url, prompt=prompt, concurrency=2, price_in=1000, price_out=5000)
    next(judge.score(pairs))
    characters = sum(len("Query: \n\nDocument: \n\n") + sum(map(len, pairs.texts(i))) for i in range(14))
    cost = (characters // 4 * 1000 + 14 * 5000) / 1e6
    line = f"asking m at {endpoint.url} about 14 pairs: about {characters // 4} tokens in and 14 out, cost about {cost:.2f}"
    assert f"{line}, 2 requests at a time" in caplog.messages
    assert cost > 0.1
    caplog.clear()
    next(llm_judge.load("m", endpoint.url).score(pairs))
    assert "14 pairs" in caplog.text and "cost" not in caplog.text and "longer than" not in caplog.text


def test_long_documents_are_cut(endpoint, pairs, caplog):
    caplog.set_level(logging.INFO, "retrieval_distill")
    scores, _ = collect(llm_judge.load("m", endpoint.url, max_characters=10), pairs)
    assert scores == pytest.approx(
        {i: expected(pairs.texts(i)[0], pairs.texts(i)[1][:10]) for i in range(14)}, abs=1e-5
    )
    assert scores[12] < expected(*pairs.texts(12))
    assert max(len(document) for _, document in endpoint.times()) == 10
    assert "3 documents are longer than 10 characters and truncated" in caplog.messages


def test_braces_in_texts_and_prompt_mean_nothing(endpoint):
    pairs = Pairs(["q"], ["what is {document}"], ["d"], ["{query} {x}"], np.array([[0, 0]]), np.array([True]))
    prompt = 'Like {"a": 1}. Query: {query}\n\nDocument: {document}\n\n'
    collect(llm_judge.load("m", endpoint.url, prompt=prompt), pairs)
    sent = 'Like {"a": 1}. Query: what is {document}\n\nDocument: {query} {x}\n\n'
    assert endpoint.bodies[0]["messages"] == [{"role": "user", "content": sent}]


@pytest.mark.parametrize(
    ("probabilities", "odds"),
    [
        ({"yes": 0.8, "no": 0.1}, math.log(8)),
        ({"▁Yes": 0.4, "yes": 0.4, "NO": 0.1, "nope": 0.1}, math.log(8)),
        ({"yes": 0.8, "maybe": 0.15}, math.log(0.8 / 0.05)),  # no: at most what is left over
        ({"no": 0.6, "maybe": 0.01}, math.log(0.01 / 0.6)),  # yes: at most the smallest listed
        ({"yes": 0.6, "maybe": 0.01, "no": 0.0}, math.log(0.6 / 0.01)),  # -9999 is not listed
        ({"yes": 1.0}, -math.log(1e-7)),
        ({"yes": 1.0, "x": 1e-9}, -math.log(1e-9)),
    ],
    ids=str,
)
def test_log_odds(endpoint, pairs, probabilities, odds):
    endpoint.answer = lambda query, document: logprobs(probabilities)
    scores, _ = collect(llm_judge.load("m", endpoint.url), pairs.only(np.array([3])))
    assert scores == {3: pytest.approx(odds, abs=1e-5)}


@pytest.mark.parametrize("given", [{}, {"logprobs": None}, {"logprobs": {"content": [{"token": "yes"}]}}], ids=str)
def test_a_server_without_logprobs(endpoint, pairs, given):
    endpoint.answer = lambda query, document: {"message": {"content": "yes"}, **given}
    scores, error = collect(llm_judge.load("m", endpoint.url, concurrency=1), pairs)
    assert scores == {} and error.startswith(f"{endpoint.url}: ")
    assert "no logprobs; use mode=graded" in error
    assert set(endpoint.times().values()) == {1}


def test_an_answer_that_is_neither(endpoint, pairs):
    endpoint.answer = lambda query, document: logprobs({"<think>": 0.9, "Hm": 0.05})
    _, error = collect(llm_judge.load("m", endpoint.url, attempts=2), pairs)
    assert "in 2 attempts: neither yes nor no is among the likeliest first tokens: ['<think>', 'hm']" in error


def test_graded(endpoint, pairs):
    endpoint.answer = graded_answer
    scores, error = collect(llm_judge.load("m", endpoint.url, mode="graded"), pairs)
    assert error is None
    assert scores == {i: min(overlap(*pairs.texts(i)), 4) for i in range(14)}
    assert all("logprobs" not in body and "top_logprobs" not in body for body in endpoint.bodies)


@pytest.mark.parametrize(
    ("answer", "grade"),
    [("3", 3), ("Grade: 2.5 of 4", 2.5), (".5", 0.5), ("0", 0), ("4.0", 4), ("3/4", 3)]
    + [(bad, None) for bad in ("5", "-1", "4.01", "42", "good", "", None)],
)
def test_grades_are_read_strictly(endpoint, pairs, answer, grade):
    endpoint.answer = lambda query, document: {"message": {"content": answer}}
    scores, error = collect(llm_judge.load("m", endpoint.url, mode="graded", attempts=2), pairs.only(np.array([3])))
    assert scores == ({} if grade is None else {3: grade})
    assert (error is None) == (grade is not None)
    assert len(endpoint.asked) == (2 if grade is None else 1)


def test_the_fingerprint_covers_what_changes_a_score():
    def mark(model="m", endpoint="http://a/v1", **options):
        return llm_judge.load(model, endpoint, **options).fingerprint

    prompt = "{query} {document}"
    assert re.fullmatch(r"\w+", mark())
    assert mark() == mark(
        endpoint="https://b:1/v2", api_key=KEY, concurrency=1, timeout=1, attempts=1, price_in=1, price_out=1
    )
    assert len({mark(), mark("n"), mark(mode="graded"), mark(prompt=prompt), mark(max_characters=10)}) == 5
    assert mark(prompt=prompt) != mark(prompt=prompt, mode="graded")
    description = llm_judge.load("m", "http://a/v1/").description
    assert description["kind"] == "llm" and description["endpoint"] == "http://a/v1" and description["model"] == "m"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"endpoint": "localhost:8000/v1"}, "http or https URL"),
        ({"endpoint": "ftp://host/v1"}, "http or https URL"),
        ({"endpoint": "http:///v1"}, "http or https URL"),
        ({"endpoint": "http://host:port/v1"}, "is not a URL"),
        ({"endpoint": "http://me:pass@host/v1"}, "without user, password"),
        ({"endpoint": "http://host/v1?api-key=1"}, "without user, password"),
        ({"prompt": "about {query}"}, "must contain {document}$"),
        ({"prompt": "about"}, "must contain {query} and {document}$"),
        ({"mode": "grade"}, "did you mean 'graded'"),
        ({"max_characters": 0}, "max_characters=0 must be at least 1"),
        ({"concurrency": 0}, "concurrency=0 must"),
        ({"attempts": 0}, "attempts=0 must"),
        ({"timeout": 0}, "timeout=0 must"),
        ({"price_in": 1.0}, "give both"),
        ({"price_in": 1.0, "price_out": -1.0}, "at least 0"),
        ({"api_key": "two words"}, "^the API key contains invalid characters"),
        ({"api_key": "ключ"}, "^the API key contains invalid characters"),
    ],
    ids=str,
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(UserError, match=message):
        llm_judge.load("m", **{"endpoint": "http://host/v1", **options})


@pytest.mark.parametrize("package", ["httpx", "tenacity"])
def test_a_missing_package_names_the_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, client.__name__)
    with pytest.raises(UserError, match=rf"needs {package}: pip install 'retrieval-distill\[llm\]'"):
        __import__(client.__name__)
