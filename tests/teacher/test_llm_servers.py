"""Servers of chat completions that take other parameters, and models that answer in other forms."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest

from retrieval_distill.config import MemberConfig, parse
from retrieval_distill.errors import UserError
from retrieval_distill.llm import client
from retrieval_distill.scores.teacher_contract import Pairs
from retrieval_distill.teacher import llm_judge
from retrieval_distill.teacher.teacher_loader import load
from tests.teacher.test_llm_judge import Handler, Server, collect, logprobs


class Told(Handler):
    """Answers a request as it is told to: ``respond(body)`` gives a status and a value."""

    def do_POST(self):  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.send(*self.server.respond(body))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(client, "FIRST_WAIT", 0.01)
    found = Server(("127.0.0.1", 0), Told)
    found.url, found.bodies = f"http://127.0.0.1:{found.server_address[1]}/v1", []
    threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def pairs():
    rows = np.array([(0, d) for d in range(6)])
    return Pairs(["q"], ["sort"], [f"d{d}" for d in range(6)], [f"text {d}" for d in range(6)], rows, np.ones(6, bool))


def choices(choice):
    return 200, {"choices": [choice]}


def graded(answer, **more):
    return choices({"message": {"content": answer, **more}, "finish_reason": "stop"})


def refused(message, **more):
    return 400, {"error": {"message": message, **more}}


def modern(body):
    """The newest endpoints: each refuses one thing at a time."""
    if "max_tokens" in body:
        return refused("Unsupported parameter: 'max_tokens' is not supported with this model. "
                       "Use 'max_completion_tokens' instead.", param="max_tokens")  # fmt: skip
    if body.get("temperature", 1) != 1:
        return refused("Unsupported value: 'temperature' does not support 0 with this model. Only 1 is supported.")
    if body.get("top_logprobs", 0) > 5:
        return refused("Invalid value: top_logprobs must be at most 5")
    return choices(logprobs({"Yes": 0.8, "No": 0.1})) if "logprobs" in body else graded("3")


@pytest.mark.parametrize("mode", ["log-odds", "graded"])
def test_what_a_server_refuses_is_learned_once(server, pairs, mode, caplog):
    server.respond = modern
    scores, error = collect(llm_judge.load(mode, server.url, mode=mode, concurrency=1), pairs)
    assert error is None
    right = math.log(8) if mode == "log-odds" else 3
    assert scores == pytest.approx(dict.fromkeys(range(6), right))
    adapted = 3 if mode == "log-odds" else 2
    assert len(server.bodies) == 6 + adapted
    learned = {name: value for name, value in server.bodies[-1].items() if name not in ("model", "messages")}
    assert learned == (
        {"max_completion_tokens": 1, "logprobs": True, "top_logprobs": 5}
        if mode == "log-odds" else {"max_completion_tokens": 8}
    )  # fmt: skip
    said = [message for message in caplog.messages if "further requests are adapted" in message]
    assert len(said) == adapted and "takes max_completion_tokens in place of max_tokens" in said[0]
    server.bodies.clear()
    caplog.clear()
    collect(llm_judge.load(mode, server.url, mode=mode), pairs)  # another teacher in the same process
    assert len(server.bodies) == 6 and "further requests" not in caplog.text


def test_many_threads_learn_it_together(server, pairs, caplog):
    server.respond = modern
    scores, error = collect(llm_judge.load("threads", server.url, concurrency=6), pairs)
    assert error is None and len(scores) == 6
    assert sum("further requests" in message for message in caplog.messages) == 3


def test_what_cannot_be_adapted_is_refused(server, pairs):
    pairs = pairs.only(np.array([0]))
    server.respond = lambda body: refused("max_tokens: 1 exceeds the context")
    _, error = collect(llm_judge.load("stubborn", server.url, concurrency=1), pairs)
    assert "status 400: max_tokens: 1 exceeds the context" in error and len(server.bodies) == 1
    server.respond = lambda body: refused("'temperature' is wrong, whatever it is")
    _, error = collect(llm_judge.load("stubborn", server.url, concurrency=1), pairs)
    assert "whatever it is" in error and len(server.bodies) == 3


@pytest.mark.parametrize("fault", ["null", "length", "unclosed", "parts"])
def test_a_model_that_thinks_gets_room(server, pairs, fault, caplog):
    cut = {
        "null": {"message": {"content": None, "reasoning_content": "Let me see 1"}, "finish_reason": "stop"},
        "length": {"message": {"content": ""}, "finish_reason": "length"},
        "unclosed": {"message": {"content": "<think>2 parts, so"}, "finish_reason": "length"},
        "parts": {"message": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "1"}]}]}},
    }[fault]
    done = {"message": {"content": [{"type": "thinking", "thinking": []}, {"type": "text", "text": "3"}]}}
    server.respond = lambda body: choices(done if body["max_tokens"] > 1000 else cut)
    scores, error = collect(llm_judge.load(fault, server.url, mode="graded", concurrency=1), pairs)
    assert error is None and scores == dict.fromkeys(range(6), 3.0)
    assert len(server.bodies) == 7 and caplog.text.count("thinks before it answers") == 1


def test_a_model_that_only_thinks_ends_with_a_message(server, pairs):
    server.respond = lambda body: graded(None, reasoning="1")
    judge = llm_judge.load("dreamer", server.url, mode="graded", attempts=2)
    _, error = collect(judge, pairs.only(np.array([0])))
    assert "no score for query 'q' and document 'd0' in 2 attempts: the answer holds only thoughts" in error
    assert len(server.bodies) == 3


@pytest.mark.parametrize(
    ("probabilities", "odds"),
    [
        ({'"yes': 0.6, "**Yes": 0.2, "No.": 0.05, " (no)": 0.05}, math.log(8)),
        ({"ĠYes": 0.8, "▁no,": 0.1, "not": 0.1}, math.log(8)),
    ],
    ids=str,
)
def test_tokens_are_read_without_marks(server, pairs, probabilities, odds):
    server.respond = lambda body: choices(logprobs(probabilities))
    scores, _ = collect(llm_judge.load("marks", server.url), pairs)
    assert scores == pytest.approx(dict.fromkeys(range(6), odds), abs=1e-5)


def test_marks_before_the_word_are_passed_over(server, pairs, caplog):
    def tokens(*positions):
        top = [[{"token": token, "logprob": math.log(p)} for token, p in listed.items()] for listed in positions]
        content = [{"token": listed[0]["token"], "top_logprobs": listed} for listed in top]
        return choices({"message": {"content": "**Yes**"}, "logprobs": {"content": content}})

    answer = {"**": 0.9, "Hm": 0.1}, {'"': 0.9, "Sure": 0.05}, {"Yes": 0.8, "No": 0.1}, {"**": 1.0}
    server.respond = lambda body: tokens(*answer[: body["max_tokens"]])
    scores, error = collect(llm_judge.load("bold", server.url, concurrency=1), pairs)
    assert error is None and scores == pytest.approx(dict.fromkeys(range(6), math.log(8)), abs=1e-5)
    assert len(server.bodies) == 7 and caplog.text.count("begins with punctuation") == 1


def test_words_of_another_language(server, pairs):
    server.respond = lambda body: choices(logprobs({"Ja": 0.5, "ja,": 0.3, "Nein": 0.1, "yes": 0.1}))
    values = {"model": "llm:deutsch", "llm": {"endpoint": server.url, "positive": ["ja"], "negative": ["nein"]}}
    judge = load(parse(MemberConfig, values, "teacher"))
    scores, _ = collect(judge, pairs)
    assert scores == pytest.approx(dict.fromkeys(range(6), math.log(8)), abs=1e-5)
    assert judge.fingerprint != llm_judge.load("deutsch", server.url).fingerprint
    server.respond = lambda body: choices(logprobs({"Ja": 0.9}))
    _, error = collect(llm_judge.load("deutsch", server.url, attempts=1), pairs)
    assert "neither yes nor no" in error and "positive=[ja] and negative=[nein]" in error


@pytest.mark.parametrize(("share", "warns"), [(0.001, True), (0.5, False)])
def test_a_model_that_hardly_says_yes_or_no_is_told_of(server, pairs, share, warns, caplog):
    """As one that was not trained to follow instructions, and continues the prompt."""
    listed = {"Does": (1 - share) * 0.9, "The": (1 - share) * 0.1, "Yes": share * 0.8, "No": share * 0.2}
    server.respond = lambda body: choices(logprobs(listed))
    scores, error = collect(llm_judge.load("base", server.url), pairs)
    assert error is None and scores == pytest.approx(dict.fromkeys(range(6), math.log(4)), abs=1e-5)
    assert ("base hardly says yes or no" in caplog.text) == warns


def test_yaml_truth_values_are_words():
    config = parse(MemberConfig, {}, "teacher", ["llm.positive=[yes, ja]", "llm.negative=[no]"])
    assert (config.llm.positive, config.llm.negative) == (("yes", "ja"), ("no",))


@pytest.mark.parametrize("words", [{"positive": []}, {"negative": ["YES"]}, {"positive": ["**"]}], ids=str)
def test_words_that_cannot_tell(words):
    with pytest.raises(UserError, match="each needs words of its own"):
        llm_judge.load("m", "http://host/v1", **words)


GRADES = {
    "<think>2 parts</think> 0": 0,
    "2 parts, 1 missing</think>\n\n4": 4,
    "[THINK]1[/THINK]3": 3,
    "scale 0-4: 3": 3,
    "On a scale from 0 to 4 this is a 3.": 3,
    "3 out of 4": 3,
    "**4**/4": 4,
    '{"grade": 2}': 2,
    "2,5": 2.5,
    "٣": 3,
}

AMBIGUOUS = [
    "0-4", "2-3", "2, 3", "3/5", "Grade 3: covers 2 parts", "1. 3", "3%", "2nd", "v2", "1,000", "1.2.3", "Grade:-2",
    "<think>3", "3\n4", "1" * 5000, "[" * 5000, "three",
]  # fmt: skip


@pytest.mark.parametrize("answer", [*GRADES, *AMBIGUOUS], ids=lambda answer: answer[:40])
def test_a_grade_is_the_one_number_of_an_answer(server, pairs, answer):
    server.respond = lambda body: graded(answer)
    scores, error = collect(llm_judge.load("g", server.url, mode="graded", attempts=1), pairs.only(np.array([2])))
    assert scores == ({2: GRADES[answer]} if answer in GRADES else {})
    assert (error is None) == (answer in GRADES)


def test_unreadable_answers_are_counted_and_cost_no_other_its_score(server, pairs, caplog):
    def respond(body):
        text = body["messages"][0]["content"]
        return graded("1 or 2" if "text 0" in text or "text 3" in text else "3")

    server.respond = respond
    scores, error = collect(llm_judge.load("c", server.url, mode="graded", attempts=2, concurrency=1), pairs)
    assert scores == dict.fromkeys([1, 2, 4, 5], 3.0)
    assert "document 'd0' in 2 attempts: the answer '1 or 2' is no single grade" in error
    assert "(2 questions have no readable answer)" in error
    assert "4 answers could not be parsed, such as: the answer '1 or 2'" in caplog.text
    server.respond = lambda body: graded("no idea")
    server.bodies.clear()
    many = Pairs(["q"], ["x"], list(map(str, range(200))), ["y"] * 200, np.array([(0, d) for d in range(200)]),
                 np.ones(200, bool))  # fmt: skip
    collect(llm_judge.load("c", server.url, mode="graded", attempts=1, concurrency=1), many)
    assert len(server.bodies) < 40  # a model that never answers is not asked for ever


@pytest.mark.parametrize(
    "value",
    [b'{"choices": ' + b"[" * 100_000, b'{"choices": [{"message": {"content": "' + b"3" * (1 << 25) + b'"}}]}'],
    ids=["deep", "endless"],
)
def test_a_response_without_bounds(server, pairs, value):
    server.respond = lambda body: (200, value)
    judge = llm_judge.load("wild", server.url, mode="graded", attempts=1, concurrency=1)
    scores, error = collect(judge, pairs.only(np.array([0])))
    assert scores == {} and ("is not a chat completion" in error or "longer than" in error) and len(error) < 600


def test_half_a_character_in_a_servers_words(server, pairs):
    server.respond = lambda body: (403, b'{"error": {"message": "no \\ud800 for you"}}')
    _, error = collect(llm_judge.load("half", server.url), pairs)
    assert "status 403: no ? for you" in error
    error.encode()
