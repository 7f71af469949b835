"""Latency of queries and throughput of encoding, measured in turns so that systems can be compared.

Knows functions and texts; must not know what they call, judgements or how a report looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from retrieval_distill.hardware import devices
from retrieval_distill.runtime import memory

Ask = Callable[[str], object]
"""Answers one query."""

ROUNDS = 6
"""Turns per system, so that other load on the machine affects all alike. The lowest and highest of six medians enclose
the true median with 97 % probability: they miss it only if all six lie on one side (1 - 2 / 2 ** 6)."""

QUERIES_PER_TURN, WARM_UP = 12, 2

SECONDS_PER_TURN = 2.0
"""Time limit: a slow system answers fewer queries per turn, at least one, and encodes fewer documents."""

COLD_QUERIES = 12

CACHE_BYTES = 128 << 20
"""Written before each cold query; larger than a processor's caches."""

BUCKETS = ("short", "medium", "long")

BUCKET_TEXTS, WARM_UP_TEXTS, ENCODING_ROUNDS = 64, 8, 3
"""Most and fewest documents of each length per round, and number of rounds."""


def representatives(systems: Mapping[str, Hashable]) -> dict[str, str]:
    """System -> the system that is timed for it: the first with the same work, usually itself.

    Args:
        systems: Name -> everything that its speed depends on.
    """
    first: dict[Hashable, str] = {}
    return {name: first.setdefault(work, name) for name, work in systems.items()}


def latencies(systems: Mapping[str, Ask], queries: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Latencies of single queries; the systems take turns.

    Args:
        systems: For each, a function that answers a query.
        queries: Texts; few are repeated.

    Returns:
        By system: ``latency_ms`` (``p50`` and ``p95`` of all queries; ``low`` to ``high``, the 97 % interval of the
        median), ``cold_latency_ms`` (the same with the processor's caches overwritten before each query, as in a
        service that is used now and then; without an interval), ``queries_per_second``, ``peak_memory_bytes`` (of the
        whole process during this system's turns) and ``hardware``.
    """
    counts = {name: _queries_per_turn(ask, queries) for name, ask in systems.items()}
    turns: dict[str, list[np.ndarray]] = {name: [] for name in systems}
    peaks = dict.fromkeys(systems, 0)
    for turn in range(ROUNDS):
        drawn = [queries[(turn * QUERIES_PER_TURN + i) % len(queries)] for i in range(QUERIES_PER_TURN + WARM_UP)]
        for name in list(systems)[:: -1 if turn % 2 else 1]:
            memory.reset_peak()
            warm_up = WARM_UP if counts[name] == QUERIES_PER_TURN else 0
            turns[name].append(latency(systems[name], drawn[: counts[name] + warm_up], warm_up))
            peaks[name] = max(peaks[name], memory.peak_bytes())
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
        warm_up: Number of uncounted calls.
        cold: Whether to overwrite the processor's caches before each query.
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
    """Throughput of encoding texts of similar length; the systems take turns.

    Args:
        encoders: By system, a function that encodes a list of texts, and the tokens it reads of each text, [texts].
        texts: A sample of the corpus.

    Returns:
        By system: ``encode`` (as :func:`throughput`; medians over the rounds) and ``documents_per_second`` over all
        three lengths.
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
    """Throughput of encoding texts of similar length.

    Args:
        encode: Encodes a list of texts.
        texts: A sample of the corpus.
        lengths: Tokens of each text, [texts].

    Returns:
        For the shortest, the middle and the longest third: ``tokens`` (their mean), ``documents_per_second`` and
        ``tokens_per_second`` over texts from the middle of the third, fewer if they take long.
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
    """``count`` rows from the middle."""
    spare = max(0, len(rows) - count) // 2
    return rows[spare : spare + count]


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """Duration of a call."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def milliseconds(taken: Sequence[float] | np.ndarray) -> dict[str, float]:
    """``p50`` and ``p95`` of durations in seconds, in milliseconds."""
    p50, p95 = np.percentile(taken, [50, 95]) * 1000
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _queries_per_turn(ask: Ask, queries: Sequence[str]) -> int:
    """Number of queries that a system answers in a turn, estimated from the last warm-up query."""
    taken = [seconds(ask, query) for query in queries[:WARM_UP]][-1]
    return max(1, min(QUERIES_PER_TURN, int(SECONDS_PER_TURN / max(taken, 1e-9))))


def _summarize_turns(turns: Sequence[np.ndarray]) -> dict[str, float]:
    medians = [milliseconds(turn)["p50"] for turn in turns]
    return {**milliseconds(np.concatenate(turns)), "low": min(medians), "high": max(medians)}
