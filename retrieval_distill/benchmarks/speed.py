"""Clocks: how long queries take, and how fast texts are encoded, so that systems timed together can be compared.

Knows functions and texts; must not know what they call, judgements or how a report looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from retrieval_distill.hardware import devices
from retrieval_distill.runtime import stages

Ask = Callable[[str], object]
"""Answers one query."""

ROUNDS = 6
"""Turns of every system: whatever else the machine does, it does to all. The lowest and highest of six medians enclose
the true one 97 times in 100, for it misses only where all six lie on one side of it (1 - 2 / 2 ** 6)."""

QUERIES_PER_TURN, WARM_UP = 12, 2

SECONDS_PER_TURN = 2.0
"""A slow system answers fewer queries in a turn, one at the least, and encodes fewer documents."""

COLD_QUERIES = 12

CACHE_BYTES = 128 << 20
"""Written before each cold query: more than a processor's caches hold."""

BUCKETS = ("short", "medium", "long")

BUCKET_TEXTS, WARM_UP_TEXTS, ENCODING_ROUNDS = 64, 8, 3
"""Documents of each length that are encoded in a round, at most and at least, and rounds."""


def representatives(systems: Mapping[str, Hashable]) -> dict[str, str]:
    """System -> the one that is timed for it, the first that does the same work; most stand for themselves.

    Args:
        systems: Name -> what its speed depends on.
    """
    first: dict[Hashable, str] = {}
    return {name: first.setdefault(work, name) for name, work in systems.items()}


def latencies(systems: Mapping[str, Ask], queries: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Single queries one after another, the systems taking turns.

    Args:
        systems: How each answers a query.
        queries: Texts; where there are few, they are asked again.

    Returns:
        By system: ``latency_ms`` (``p50`` and ``p95`` of all queries; ``low`` to ``high``, the 97 % interval of the
        median), ``cold_latency_ms`` (the same of queries before each of which the processor's caches were filled with
        something else, as when a service is asked now and then; without an interval), ``queries_per_second``,
        ``peak_memory_bytes`` (of the whole process while this system was asked) and ``hardware``.
    """
    counts = {name: _queries_per_turn(ask, queries) for name, ask in systems.items()}
    turns: dict[str, list[np.ndarray]] = {name: [] for name in systems}
    peaks = dict.fromkeys(systems, 0)
    for turn in range(ROUNDS):
        drawn = [queries[(turn * QUERIES_PER_TURN + i) % len(queries)] for i in range(QUERIES_PER_TURN + WARM_UP)]
        for name in list(systems)[:: -1 if turn % 2 else 1]:
            stages.reset_peak_memory()
            warm_up = WARM_UP if counts[name] == QUERIES_PER_TURN else 0
            turns[name].append(latency(systems[name], drawn[: counts[name] + warm_up], warm_up))
            peaks[name] = max(peaks[name], stages.peak_memory_bytes())
    cold = {name: queries[-min(COLD_QUERIES, counts[name]) :] for name in systems}
    return {
        name: {
            "latency_ms": _summarize_turns(turns[name]),
            "cold_latency_ms": milliseconds(latency(ask, cold[name], warm_up=0, cold=True)),
            "queries_per_second": round(sum(map(len, turns[name])) / sum(map(np.sum, turns[name])), 2),
            "peak_memory_bytes": peaks[name],
            "hardware": devices.name(),
        }
        for name, ask in systems.items()
    }


def latency(ask: Ask, queries: Sequence[str], warm_up: int = 5, cold: bool = False) -> np.ndarray:
    """Seconds of single queries, one after another.

    Args:
        ask: Answers one query.
        queries: Texts; the first ``warm_up`` are not counted, unless there are no others.
        warm_up: Uncounted calls.
        cold: Whether the processor's caches are filled with something else before each query.
    """
    for query in queries[:warm_up]:
        ask(query)
    other = np.empty(CACHE_BYTES if cold else 0, np.uint8)
    found = []
    for number, query in enumerate(queries[warm_up:] or queries):
        other.fill(number % 256)
        found.append(seconds(ask, query))
    return np.array(found)


def throughputs(
    encoders: Mapping[str, tuple[Callable[[list[str]], object], np.ndarray]], texts: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """How fast texts of like length are encoded, the systems taking turns.

    Args:
        encoders: By system, what encodes a list of texts, and the tokens that it reads of each text, shape [texts].
        texts: A sample of the corpus.

    Returns:
        By system: ``encode`` (see :func:`throughput`, the medians of the rounds) and ``documents_per_second`` over the
        three lengths together.
    """
    rounds = [
        {name: throughput(encode, texts, lengths) for name, (encode, lengths) in encoders.items()}
        for _ in range(ENCODING_ROUNDS)
    ]
    found = {}
    for name in encoders:
        buckets = {
            bucket: {key: round(float(np.median([turn[name][bucket][key] for turn in rounds])), 1) for key in values}
            for bucket, values in rounds[0][name].items()
        }
        per_document = np.mean([1 / bucket["documents_per_second"] for bucket in buckets.values()])
        found[name] = {"documents_per_second": round(float(1 / per_document), 1), "encode": buckets}
    return found


def throughput(
    encode: Callable[[list[str]], object], texts: Sequence[str], lengths: np.ndarray
) -> dict[str, dict[str, float]]:
    """How fast texts of like length are encoded.

    Args:
        encode: Encodes a list of texts.
        texts: A sample of the corpus.
        lengths: Tokens of each, shape [texts].

    Returns:
        By length - the shortest third, the middle one, the longest: ``tokens`` (their mean), ``documents_per_second``
        and ``tokens_per_second`` over the texts nearest to the middle of the third, fewer where they take long.
    """
    found = {}
    for name, third in zip(BUCKETS, np.array_split(np.argsort(lengths, kind="stable"), len(BUCKETS)), strict=True):
        if not len(third):
            continue
        middle = _middle(third, WARM_UP_TEXTS)
        each = seconds(encode, [texts[row] for row in middle]) / len(middle)
        rows = _middle(third, max(WARM_UP_TEXTS, min(BUCKET_TEXTS, int(SECONDS_PER_TURN / max(each, 1e-9)))))
        taken = seconds(encode, [texts[row] for row in rows])
        found[name] = {
            "tokens": round(float(lengths[rows].mean()), 1),
            "documents_per_second": round(len(rows) / taken, 1),
            "tokens_per_second": round(float(lengths[rows].sum()) / taken, 1),
        }
    return found


def _middle(rows: np.ndarray, count: int) -> np.ndarray:
    """As many rows from their middle."""
    spare = max(0, len(rows) - count) // 2
    return rows[spare : spare + count]


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def milliseconds(taken: Sequence[float] | np.ndarray) -> dict[str, float]:
    """``p50`` and ``p95`` of seconds, in milliseconds."""
    p50, p95 = np.percentile(taken, [50, 95]) * 1000
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _queries_per_turn(ask: Ask, queries: Sequence[str]) -> int:
    """Queries that a system answers in the time of a turn, judged by the last of a few that warm it up."""
    taken = [seconds(ask, query) for query in queries[:WARM_UP]][-1]
    return max(1, min(QUERIES_PER_TURN, int(SECONDS_PER_TURN / max(taken, 1e-9))))


def _summarize_turns(turns: Sequence[np.ndarray]) -> dict[str, float]:
    medians = [milliseconds(turn)["p50"] for turn in turns]
    return {**milliseconds(np.concatenate(turns)), "low": min(medians), "high": max(medians)}
