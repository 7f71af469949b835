"""One search, from its body to its answer: encoded, found, reranked, interleaved, noted in the feedback log.

Knows the engine, the queues before it and the log; must not know routes, or how documents are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.concurrency import run_in_threadpool

from retrieval_distill.feedback.interleaving import team_draft
from retrieval_distill.search.hits import Hit, highlights
from retrieval_distill.search.questions import question
from retrieval_distill.serving.engine import LIKE, Engine, Found, Place, Question
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.search_bodies import Search
from retrieval_distill.serving.service import Clock, Service
from retrieval_distill.serving.systems import System

RERANK_DEPTH = 30
"""Documents that the teacher reads for a query."""

PARTS = ("dense", "bm25", "teacher")


async def answer(service: Service, asked: Search) -> dict[str, Any]:
    """The answer to a body of ``/search``.

    Raises:
        UserError: A name is unknown, or the query or filter is wrong.
        QueueFullError: The server is busy.
    """
    clock, engine = Clock(), service.engine
    text = engine.like(asked.like)[:LIKE] if asked.like else question(asked.query or "")
    where = None if asked.where is None else asked.where.model_dump(by_alias=True)
    named: Sequence[str | None] = asked.interleave or [asked.system]
    first, second = engine.system(named[0]), engine.system(named[-1])
    finding = [
        await _find(service, engine, system, text, asked, where, clock) for system in dict.fromkeys((first, second))
    ]
    found, allowed, teams = finding[0][0], finding[0][1], None
    if asked.interleave:
        other = finding[-1][0]
        drafted = team_draft([hit.id for hit in found.hits], [hit.id for hit in other.hits], depth=asked.depth)
        found, teams = _interleaved(drafted, found, other), [team for _, team in drafted]
    listed = found.hits[asked.offset : asked.offset + asked.depth]
    system = f"{first.name}+{second.name}" if asked.interleave else first.name
    search_id = None
    if service.log is not None and asked.query:
        noted: dict[str, Any] = {"against": second.name, "teams": teams} if teams is not None else {}
        search_id = await run_in_threadpool(
            service.log.record_search, query=text, system=first.name, shown=[hit.id for hit in listed],
            session=asked.session, offset=asked.offset, **noted,
        )  # fmt: skip
    clock.lap("search")
    return {
        "search_id": search_id,
        "query": asked.query or "",
        "system": system,
        "total": allowed,
        "milliseconds": clock.milliseconds(),
        "hits": [_hit(engine, found, hit, asked.query or "") for hit in listed],
    }


async def _find(
    service: Service,
    engine: Engine,
    system: System,
    text: str,
    asked: Search,
    where: dict[str, Any] | None,
    clock: Clock,
) -> tuple[Found, int]:
    """What one system finds, and how many documents it could find."""
    searcher = system.searcher if where is None else await run_in_threadpool(engine.searcher, system, where)
    vector = None
    if system.encoder is not None:
        if asked.like:
            ((vector, _),) = await service.do("encode", system.encoder.of_documents, [text])
        else:
            (vector,) = await service.do("encode", system.encoder.queries, [text])
    clock.lap("encode")
    depth = asked.offset + asked.depth + bool(asked.like)
    wide = max(depth, RERANK_DEPTH) if asked.rerank else depth
    (found,) = await service.do("search", engine.find, [Question(text, searcher, wide, vector)])
    if asked.like:
        found = replace(found, hits=_numbered([hit for hit in found.hits if asked.like not in (hit.id, hit.passage)]))
    clock.lap("search")
    if asked.rerank:
        found = await _reranked(service, engine, found, text)
        clock.lap("rerank")
    return found, engine.documents if searcher.allowed is None else engine.count(searcher.allowed)


async def _reranked(service: Service, engine: Engine, found: Found, query: str) -> Found:
    """The first hits in the teacher's order, the others below them."""
    if engine.teacher is None:
        raise RefusedError(501, "this server has no teacher to rerank with; start it with --teacher", param="rerank")
    head, tail = found.hits[:RERANK_DEPTH], found.hits[RERANK_DEPTH:]
    texts = await run_in_threadpool(engine.dataset.documents.take, [hit.passage for hit in head])
    scores = await service.do("rerank", engine.scores, [(query, text) for text in texts])
    ranked = sorted(zip(scores, head, strict=True), key=lambda scored: -scored[0])
    places: dict[str, Place] = {hit.passage: (score, rank) for rank, (score, hit) in enumerate(ranked, 1)}
    floor = ranked[-1][0] if ranked else 0.0
    below = [replace(hit, score=floor - number) for number, hit in enumerate(tail, 1)]
    hits = _numbered([*(replace(hit, score=score) for score, hit in ranked), *below])
    return Found(hits, {**found.parts, "teacher": places})


def _interleaved(drafted: Sequence[tuple[str, Any]], first: Found, second: Found) -> Found:
    known = {hit.id: hit for hit in (*second.hits, *first.hits)}
    parts = {part: {**second.parts.get(part, {}), **first.parts.get(part, {})} for part in PARTS}
    return Found(_numbered([known[id_] for id_, _ in drafted]), parts)


def _numbered(hits: Sequence[Hit]) -> list[Hit]:
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, 1)]


def _hit(engine: Engine, found: Found, hit: Hit, query: str) -> dict[str, Any]:
    """A hit as clients see it."""
    places = {part: found.parts.get(part, {}).get(hit.passage) for part in PARTS}
    return {
        "id": hit.id,
        "rank": hit.rank,
        "score": hit.score,
        "title": hit.title,
        "snippet": hit.snippet,
        "highlights": highlights(hit.snippet, query),
        "passage": hit.passage if hit.passage != hit.id else None,
        "metadata": engine.fields.values(hit.passage, hit.id),
        "parts": {part: place and {"score": place[0], "rank": place[1]} for part, place in places.items()},
    }
