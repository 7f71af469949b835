"""Speed: clocks that count what they should, on work whose cost is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from retrieval_distill.benchmarks import speed


def test_latency_counts_what_is_no_warm_up():
    asked = []

    def ask(query):
        asked.append(query)
        time.sleep(0.05 if query == "slow" else 0.002)

    seconds = speed.latency(ask, ["slow", "slow", "a", "b", "c"], warm_up=2)
    assert asked == ["slow", "slow", "a", "b", "c"]
    assert len(seconds) == 3
    assert (seconds >= 0.002).all() and (seconds < 0.05).all()
    assert len(speed.latency(ask, ["a"], warm_up=5)) == 1  # fewer than the warm-up needs: all are counted
    assert len(speed.latency(ask, ["a", "b"], warm_up=0, cold=True)) == 2


def test_a_cold_query_reads_from_memory(monkeypatch):
    """A table that fits a processor's cache is read again after other data has taken its place."""
    table = np.random.default_rng(0).random(1 << 17)  # 1 MB
    warm = speed.latency(lambda _: table.sum(), ["q"] * 60)
    cold = speed.latency(lambda _: table.sum(), ["q"] * 15, warm_up=0, cold=True)
    assert np.median(cold) > 1.1 * np.median(warm)


def test_throughput_by_length():
    lengths = np.repeat([10, 50, 200], 100)[np.random.default_rng(1).permutation(300)]
    texts = [str(length) for length in lengths]
    found = speed.throughput(lambda batch: time.sleep(1e-6 * sum(map(int, batch))), texts, lengths)
    assert [found[name]["tokens"] for name in ("short", "medium", "long")] == [10, 50, 200]
    assert found["short"]["documents_per_second"] > found["long"]["documents_per_second"]
    for row in found.values():
        assert row["tokens_per_second"] == pytest.approx(row["documents_per_second"] * row["tokens"], rel=0.01)
        assert row["tokens_per_second"] <= 1e6
    assert set(speed.throughput(len, ["a"], np.array([3]))) == {"short"}


def test_systems_take_turns_so_that_what_slows_the_machine_slows_all():
    order = []
    systems = {name: (lambda text, name=name: order.append((name, text))) for name in ("a", "b")}
    found = speed.latencies(systems, [f"q{i}" for i in range(40)])
    turns = [name for name, _ in order][2 * speed.WARM_UP : -2 * speed.COLD_QUERIES]
    each = speed.QUERIES_PER_TURN + speed.WARM_UP
    assert [turns[i] for i in range(0, len(turns), each)] == ["a", "b", "b", "a"] * (speed.ROUNDS // 2)
    asked = {name: [text for other, text in order if other == name] for name in systems}
    assert asked["a"] == asked["b"] and len(set(asked["a"])) == 40  # the same queries, all of them
    for system in found.values():
        milliseconds = system["latency_ms"]
        assert milliseconds["low"] <= milliseconds["p50"] <= milliseconds["high"]
        assert milliseconds["p50"] <= milliseconds["p95"]


def test_the_interval_is_that_of_the_turns_medians(monkeypatch):
    """Six turns, whose queries take 1, 2, ... 6 milliseconds."""
    asked = [0]

    def clock(ask, query):
        asked[0] += 1
        return (1 + (asked[0] - 3) // speed.QUERIES_PER_TURN) / 1000

    monkeypatch.setattr(speed, "WARM_UP", 2)
    monkeypatch.setattr(speed, "seconds", clock)
    found = speed.latencies({"a": len}, ["q"] * 200)["a"]["latency_ms"]
    assert (found["low"], found["p50"], found["high"]) == (1.0, 3.5, 6.0)


def test_a_slow_system_answers_fewer_queries(monkeypatch):
    """By a clock on which a slow query takes 12 ms, and a fast one no time to speak of."""
    monkeypatch.setattr(speed, "SECONDS_PER_TURN", 0.03)
    asked = {"slow": 0, "fast": 0}

    def slow(query):
        asked["slow"] += 1

    def fast(query):
        asked["fast"] += 1

    def clock(ask, query):
        ask(query)
        return 0.012 if ask is slow else 1e-4

    monkeypatch.setattr(speed, "seconds", clock)
    speed.latencies({"slow": slow, "fast": fast}, ["q"] * 30)
    turn = speed.QUERIES_PER_TURN + speed.WARM_UP
    assert asked == {  # to begin with, in every turn, and with cold caches
        "slow": speed.WARM_UP + 2 * speed.ROUNDS + 2,
        "fast": speed.WARM_UP + turn * speed.ROUNDS + speed.COLD_QUERIES,
    }


def test_encoders_take_turns_too_and_their_corpus_rate_is_that_of_its_thirds():
    texts = [str(n) for n in np.repeat([1, 5, 20], 30)]
    lengths = np.array([int(text) for text in texts])
    order = []

    def encode(name, batch):
        order.append(name)
        time.sleep(5e-5 * sum(map(int, batch)))

    encoders = {name: ((lambda batch, name=name: encode(name, batch)), lengths) for name in ("a", "b")}
    found = speed.throughputs(encoders, texts)
    assert order == (["a"] * 6 + ["b"] * 6) * speed.ENCODING_ROUNDS
    rates = [found["a"]["encode"][name]["documents_per_second"] for name in speed.BUCKETS]
    assert found["a"]["documents_per_second"] == pytest.approx(3 / sum(1 / rate for rate in rates), rel=0.01)


def test_what_does_the_same_work_is_timed_once():
    assert speed.representatives({"a": ("x", 1), "b": ("x", 2), "c": ("x", 1)}) == {"a": "a", "b": "b", "c": "a"}
