"""The systems of a report in a form that can be timed: each answers a query's text with a Run, as a search would.

Knows retrievers, teachers and what their speed depends on; must not know clocks, judgements or how a report looks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retrieval_distill.benchmarks import speed
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.hybrid import FUSION_DEPTH, Fusion
from retrieval_distill.scores.teacher_contract import Teacher
from retrieval_distill.teacher.scoring import pairs_of

logger = logging.getLogger("retrieval_distill")

DEPTH = 10
"""Documents per timed query."""

SAMPLE = 1500
"""Documents in the sample for encoding."""

QUERY = "q"
"""Id of the query in a Run of a single query."""


@dataclass(frozen=True, eq=False)
class TimedSystem:
    """A system to be timed.

    Args:
        search: Function of a query's text and a depth.
        facts: Its sizes, for the report.
        work: Everything that a query's duration depends on; systems with equal work are timed once.
        encode: A function that encodes documents, and the tokens it reads of each document of the sample; ``None``: it
            encodes nothing.
        encodes: Everything that the speed of encoding depends on.
        index_search_ms: Milliseconds of the index search without embedding the query; empty if there is no index.
    """

    search: Callable[[str, int], Run]
    facts: dict[str, Any]
    work: Hashable
    encode: tuple[Callable[[list[str]], object], np.ndarray] | None = None
    encodes: Hashable = None
    index_search_ms: dict[str, float] = field(default_factory=dict)


def bm25_system(bm25: BM25) -> TimedSystem:
    """BM25 over its documents."""

    def search(text: str, depth: int) -> Run:
        return bm25.search(_single_query(text), depth)

    return TimedSystem(search, {"index_bytes": bm25.bytes}, "bm25")


def dense_system(index: Index, model: str, dtype: str, queries: Texts, documents: Texts) -> TimedSystem:
    """A bi-encoder with its index.

    Its facts: ``parameters``, ``dimensions``, ``model_bytes`` (weights in their compute dtype), ``index_bytes`` (on
    disk) and ``max_length`` (tokens it reads of a document; missing: all). Its speed depends on the shapes of its
    weights, the tokens it reads and the kind and size of the index, but not on the values of the weights.
    """
    from retrieval_distill.student import build, encoder

    loaded = encoder.load(model, dtype, index.manifest["inputs"]["max_length"])
    shapes = tuple((tuple(weight.shape), str(weight.dtype)) for weight in loaded.parameters())
    sample, query_texts = documents.take(_evenly_spaced(documents.ids, SAMPLE)), queries.take()
    read = encoder.tokens_of(loaded, sample, "document").lengths
    counts = index.manifest["counts"]

    def search(text: str, depth: int) -> Run:
        scores, ids = index.search(encoder.encode(loaded, [text], "query"), depth)
        return Run.from_best([QUERY], ids, scores)

    def encode(texts: list[str]) -> object:
        return encoder.encode(loaded, texts, "document")

    vectors = encoder.encode(loaded, query_texts[: speed.QUERIES_PER_TURN], "query")
    facts: dict[str, Any] = {
        "parameters": build.parameters(loaded),
        "dimensions": counts["dimensions"],
        "model_bytes": _bytes(loaded.parameters()),
        "index_bytes": counts["bytes"],
    }
    if (limit := encoder.limit(loaded, "document")) is not None:
        facts["max_length"] = limit
    tokens = encoder.tokens_of(loaded, query_texts, "query").lengths
    about_index = (counts["kind"], counts["documents"], counts["dimensions"], repr(counts["search"]))
    return TimedSystem(
        search, facts, ("dense", shapes, tokens.tobytes(), about_index), (encode, read), (shapes, read.tobytes()),
        speed.milliseconds([speed.seconds(index.search, vector[None], DEPTH) for vector in vectors]),
    )  # fmt: skip


def hybrid_system(lexical: TimedSystem, dense: TimedSystem, fusion: Fusion) -> TimedSystem:
    """BM25 and a bi-encoder, fused; the index size is that of both."""

    def search(text: str, depth: int) -> Run:
        return fusion.fuse(lexical.search(text, FUSION_DEPTH), dense.search(text, FUSION_DEPTH)).top(depth)

    index_bytes = lexical.facts["index_bytes"] + dense.facts["index_bytes"]
    return TimedSystem(search, dense.facts | {"index_bytes": index_bytes}, ("hybrid", dense.work, fusion.method))


def reranking_system(first: TimedSystem, teachers: Sequence[Teacher], documents: Texts, depth: int) -> TimedSystem:
    """A first stage whose best ``depth`` documents are scored by teachers, without a store; sizes are of both."""

    def search(text: str, _: int) -> Run:
        found = first.search(text, depth)
        pairs = pairs_of(found, _single_query(text), documents)
        for teacher in teachers:
            list(teacher.score(pairs))  # the scores are not needed, the time is
        return found

    weights = [weight for teacher in teachers if hasattr(teacher, "model") for weight in teacher.model.parameters()]
    facts: dict[str, Any] = {
        "parameters": first.facts.get("parameters", 0) + sum(weight.numel() for weight in weights),
        "model_bytes": first.facts.get("model_bytes", 0) + _bytes(weights),
        "index_bytes": first.facts["index_bytes"],
    }
    return TimedSystem(search, facts, ("reranked", first.work))


def measure(systems: Mapping[str, TimedSystem], queries: Texts, documents: Texts) -> dict[str, dict[str, Any]]:
    """Size and speed of every system, measured in turns.

    Returns:
        By system: its facts; :func:`speed.latencies`; for a bi-encoder also :func:`speed.throughputs` and
        ``index_search_ms``; and ``timed_as``, the system that was timed: itself, or an earlier one with the same work.
    """
    asks = {name: (lambda text, of=system: of.search(text, DEPTH)) for name, system in systems.items()}
    same = speed.representatives({name: system.work for name, system in systems.items()})
    with _quiet_logger():
        timed = speed.latencies({name: asks[name] for name in dict.fromkeys(same.values())}, queries.take())
    encoders = {name: system.encode for name, system in systems.items() if system.encode is not None}
    alike = speed.representatives({name: systems[name].encodes for name in encoders})
    sample = documents.take(_evenly_spaced(documents.ids, SAMPLE))
    encoded = speed.throughputs({name: encoders[name] for name in dict.fromkeys(alike.values())}, sample)
    return {
        name: {
            **system.facts,
            **(encoded[alike[name]] if name in alike else {}),
            **timed[same[name]],
            **({"index_search_ms": systems[same[name]].index_search_ms} if system.index_search_ms else {}),
            "timed_as": same[name],
        }
        for name, system in systems.items()
    }


@contextmanager
def _quiet_logger() -> Iterator[None]:
    """Suppress the log messages that retrievers and teachers write for every query."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def _bytes(weights: Iterable[Any]) -> int:
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _single_query(text: str) -> Texts:
    return Texts.from_records([(QUERY, "", text)])


def _evenly_spaced(ids: list[str], count: int) -> list[str]:
    """At most ``count`` ids, evenly spaced over the corpus."""
    return ids[:: max(1, -(-len(ids) // count))]
