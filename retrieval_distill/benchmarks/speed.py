"""Speed and memory of retrievers on this machine, from text to ranking, each measured the same way.

Knows clocks, retrievers and which machine this is; must not know judgements or how a report looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.hardware import devices
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime import stages

DEPTH = 10
"""Documents that a timed query asks for."""

WARM_QUERIES, COLD_QUERIES = 100, 15

CACHE_BYTES = 128 << 20
"""Written before each cold query: more than a processor's caches hold."""

BUCKETS = ("short", "medium", "long")

BUCKET_SAMPLE, BUCKET_TEXTS = 1500, 64
"""Documents whose lengths are looked at, and documents of each length that are timed."""


def lexical(bm25: BM25, queries: Texts) -> dict[str, Any]:
    """Speed and size of BM25; keys as :func:`dense` has them, without those of a model."""
    return {
        "index_bytes": bm25.bytes,
        **_latencies(lambda text: bm25.search(Texts.from_records([("q", "", text)]), DEPTH), queries.take()),
    }


def dense(
    index: Index, embeddings: Embeddings, model: str, dtype: str, queries: Texts, documents: Texts
) -> dict[str, Any]:
    """Speed and size of a bi-encoder with its index, one query at a time.

    Returns:
        ``parameters``, ``dimensions``, ``model_bytes`` (weights as they compute), ``index_bytes`` (on disk),
        ``documents_per_second`` (of embedding the corpus), ``encode`` (see :func:`throughput`), ``latency_ms`` and
        ``cold_latency_ms`` (see :func:`latency`), ``queries_per_second``, ``index_search_ms`` (the index alone, the
        query's vector given), ``peak_memory_bytes`` (of the whole process while it was asked) and ``hardware``.
    """
    from retrieval_distill.student import build, encoder

    loaded = encoder.load(model, dtype, index.manifest["inputs"]["max_length"])
    texts, embedded = queries.take(), embeddings.manifest
    measured = _latencies(lambda text: index.search(encoder.encode(loaded, [text], "query"), DEPTH), texts)
    vectors = encoder.encode(loaded, texts[:WARM_QUERIES], "query")
    alone = _milliseconds([_seconds(index.search, vector[None], DEPTH) for vector in vectors])
    sample = documents.take(_drawn(documents.ids, BUCKET_SAMPLE))
    lengths = encoder.tokens_of(loaded, sample, "document").lengths
    return {
        "parameters": build.parameters(loaded),
        "dimensions": index.manifest["counts"]["dimensions"],
        "model_bytes": sum(weight.numel() * weight.element_size() for weight in loaded.parameters()),
        "index_bytes": index.manifest["counts"]["bytes"],
        "documents_per_second": round(embedded["counts"]["embedded"] / max(embedded["seconds"], 1e-9), 1),
        "encode": throughput(lambda texts: encoder.encode(loaded, texts, "document"), sample, lengths),
        **measured,
        "index_search_ms": alone,
    }


def throughput(encode: Callable[[list[str]], object], texts: Sequence[str], lengths: np.ndarray) -> dict[str, Any]:
    """How fast texts of like length are encoded.

    Args:
        encode: Encodes a list of texts.
        texts: A sample of the corpus.
        lengths: Tokens of each, shape [texts].

    Returns:
        By length - the shortest third, the middle one, the longest: ``tokens`` (their mean), ``documents_per_second``
        and ``tokens_per_second`` over the texts nearest to the middle of the third.
    """
    found = {}
    for name, third in zip(BUCKETS, np.array_split(np.argsort(lengths, kind="stable"), len(BUCKETS)), strict=True):
        spare = max(0, len(third) - BUCKET_TEXTS) // 2
        rows = third[spare : spare + BUCKET_TEXTS]
        if not len(rows):
            continue
        encode([texts[row] for row in rows[:8]])
        seconds = _seconds(encode, [texts[row] for row in rows])
        found[name] = {
            "tokens": round(float(lengths[rows].mean()), 1),
            "documents_per_second": round(len(rows) / seconds, 1),
            "tokens_per_second": round(float(lengths[rows].sum()) / seconds, 1),
        }
    return found


def latency(ask: Callable[[str], object], queries: Sequence[str], warm_up: int = 5, cold: bool = False) -> np.ndarray:
    """Seconds of single queries, one after another.

    Args:
        ask: Answers one query.
        queries: Texts; the first ``warm_up`` are not counted, unless there are no others.
        warm_up: Uncounted calls.
        cold: Whether the processor's caches are filled with something else before each query, as when a service is
            asked now and then.
    """
    for query in queries[:warm_up]:
        ask(query)
    other = np.empty(CACHE_BYTES if cold else 0, np.uint8)
    seconds = []
    for number, query in enumerate(queries[warm_up:] or queries):
        other.fill(number % 256)
        seconds.append(_seconds(ask, query))
    return np.array(seconds)


def _latencies(ask: Callable[[str], object], queries: list[str]) -> dict[str, Any]:
    stages.reset_peak_memory()
    warm, peak = latency(ask, queries[: WARM_QUERIES + 5]), stages.peak_memory_bytes()
    cold = latency(ask, queries[-COLD_QUERIES:], warm_up=0, cold=True)
    return {
        "latency_ms": _milliseconds(warm),
        "cold_latency_ms": _milliseconds(cold),
        "queries_per_second": round(len(warm) / warm.sum(), 2),
        "peak_memory_bytes": peak,
        "hardware": devices.name(),
    }


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def _milliseconds(seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}


def _drawn(ids: list[str], count: int) -> list[str]:
    """As many ids, spread over the whole corpus."""
    return ids[:: max(1, -(-len(ids) // count))]
