"""What systems behind endpoints take and cost, from the requests that a run sent anyway: none is sent for the clock.

Knows requests that were answered, and indexes; must not know judgements or how a report looks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retrieval_distill import endpoints
from retrieval_distill.benchmarks import speed
from retrieval_distill.benchmarks.timed_systems import DEPTH
from retrieval_distill.config.endpoint import APIConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.index.index import Index
from retrieval_distill.llm.ledger import Request


def dense(index: Index, model: str, queries: Texts) -> dict[str, Any]:
    """Size, latency and cost of a bi-encoder behind an endpoint with its index here.

    Args:
        index: Over the documents' vectors.
        model: ``api:NAME``.
        queries: Those that were embedded, each by a request of its own.
    """
    embedder, counts = endpoints.embedder(model), index.manifest["counts"]
    keys = [embedder.key(text, "query") for text in queries.take()]
    vectors = list(embedder.ledger.known(keys).values())[: speed.QUERIES_PER_TURN]
    taken = [speed.seconds(index.search, np.array(vector)[None], DEPTH) for vector in vectors]
    facts = {"dimensions": counts["dimensions"], "index_bytes": counts["bytes"]}
    if not taken:
        return facts
    alone = speed.milliseconds(taken)
    alike = [request for request in embedder.ledger.requests(keys) if request.texts == 1]
    return {
        **facts,
        "index_search_ms": alone,
        **_found(embedder.options, _by_subject(alike), dict.fromkeys(keys, 1), alone["p50"]),
    }


def reranked(model: str, run: Run, queries: Texts, depth: int, first_ms: float) -> dict[str, Any]:
    """Latency and cost of a reranker behind an endpoint.

    Args:
        model: ``api:NAME``.
        run: What it reranked.
        queries: Texts of the run's queries.
        depth: Documents per query that it read.
        first_ms: Milliseconds of the first stage, which are added.
    """
    reranker, read = endpoints.reranker(model), run.top(depth).frame["query_id"].value_counts()
    wanted = {reranker.subject(queries[id_]): int(read[id_]) for id_ in run.query_ids}
    asked = _by_subject(reranker.ledger.requests(wanted))
    return _found(reranker.options, asked, wanted, first_ms)


def _by_subject(requests: Sequence[Request]) -> dict[str, list[Request]]:
    found: dict[str, list[Request]] = {}
    for request in requests:
        found.setdefault(request.subject, []).append(request)
    return found


def _found(
    options: APIConfig, asked: Mapping[str, Sequence[Request]], wanted: Mapping[str, int], more_ms: float
) -> dict[str, Any]:
    """Per query, what its requests took and cost per text, times the texts that it wants; empty if none is known."""
    seconds, tokens, requests = [], [], []
    for subject, own in asked.items():
        texts = sum(request.texts for request in own)
        seconds.append(sum(request.seconds for request in own) / texts * wanted[subject])
        tokens.append(sum(request.tokens for request in own) / texts * wanted[subject])
        requests.append(-(-wanted[subject] // options.batch))
    if not seconds:
        return {}
    found: dict[str, Any] = {
        "latency_ms": speed.milliseconds(np.array(seconds) + more_ms / 1000), "timed_as": "requests",
    }  # fmt: skip
    if options.price_in is not None or options.price_requests is not None:
        by_token = float(np.mean(tokens)) * (options.price_in or 0.0) / 1e6
        by_request = float(np.mean(requests)) * (options.price_requests or 0.0) / 1000
        found["cost_per_thousand_queries"] = round(1000 * (by_token + by_request), 6)
    return found
