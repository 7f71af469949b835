"""The search API: ``/search``, ``/compare``, ``/systems``, ``/feedback``, ``/preference``.

Knows requests, answers and the feedback log; must not know how documents are found.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from starlette.concurrency import run_in_threadpool

from retrieval_distill.feedback.interleaving import team_draft
from retrieval_distill.search.hits import Hit, highlights
from retrieval_distill.search.questions import question
from retrieval_distill.serving.answers import Body, Name, json
from retrieval_distill.serving.engine import LIKE, Engine, Found, Place, Question
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.fields import MAX_PARTS, MAX_VALUES
from retrieval_distill.serving.limits import MAX_DEPTH, MAX_OFFSET
from retrieval_distill.serving.service import Clock, Service
from retrieval_distill.serving.systems import System

RERANK_DEPTH = 30
"""Documents that the teacher reads for a query."""

BLIND_KEPT = 10_000
"""Comparisons whose names are remembered until the preference comes."""

PARTS = ("dense", "bm25", "teacher")

Scalar = str | int | Annotated[float, Field(allow_inf_nan=False)] | bool


class Comparison(Body):
    """A document's field against a value; ``contains`` ignores case in text, and means an element of a list."""

    field: Name
    op: Literal["=", "!=", "<", "<=", ">", ">=", "in", "contains"]
    value: Scalar | Annotated[list[Scalar], Field(max_length=MAX_VALUES)]


class And(Body):
    """All of these."""

    all_: Annotated[list[Filter], Field(alias="and", min_length=1, max_length=MAX_PARTS)]


class Or(Body):
    """Any of these."""

    any_: Annotated[list[Filter], Field(alias="or", min_length=1, max_length=MAX_PARTS)]


class Not(Body):
    """Not this."""

    not_: Annotated[Filter, Field(alias="not")]


def _form(value: Any) -> str:
    """Which kind of filter a value is, as it was sent or as it was read."""
    if isinstance(value, Body):
        return type(value).__name__.lower()
    keys = value if isinstance(value, dict) else ()
    return next((word for word in ("and", "or", "not") if word in keys), "comparison")


Filter = Annotated[
    Annotated[And, Tag("and")]
    | Annotated[Or, Tag("or")]
    | Annotated[Not, Tag("not")]
    | Annotated[Comparison, Tag("comparison")],
    Discriminator(_form),
]
"""Which documents may be found."""

for model in (And, Or, Not):
    model.model_rebuild()

Where = Filter | None
Session = Annotated[Name | None, Field(description="An id of the caller's, to tell one person's searches.")]


class Search(Body):
    """What to look for: ``query``, or documents ``like`` a document."""

    query: str | None = None
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 10
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0
    system: Name | None = None
    rerank: bool = False
    where: Where = None
    like: Name | None = None
    interleave: Annotated[list[Name], Field(min_length=2, max_length=2)] | None = None
    session: Session = None

    @model_validator(mode="after")
    def one_of_two(self) -> Search:
        """Exactly one of query and like; interleaving of plain first pages."""
        if (self.query is None) == (self.like is None):
            raise ValueError("give query, or like: the id of a document")
        if self.interleave and (self.like or self.rerank or self.offset or self.system):
            raise ValueError("interleave goes with query, depth, where and session alone")
        return self


class Compare(Body):
    """A query for two systems."""

    query: str
    systems: Annotated[list[Name], Field(min_length=2, max_length=2)]
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 10
    where: Where = None
    session: Session = None


class Feedback(Body):
    """What a person did with a hit; a judgement has a grade, from -1 (thumb down) to 3."""

    search_id: Name
    doc_id: Name
    kind: Literal["click", "judgement"]
    grade: Annotated[int, Field(ge=-1, le=3)] | None = None

    @model_validator(mode="after")
    def grade_of_judgement(self) -> Feedback:
        """A judgement has a grade, a click has none."""
        if (self.kind == "judgement") != (self.grade is not None):
            raise ValueError("a judgement needs a grade, and a click has none")
        return self


class Preference(Body):
    """Which of two searches side by side was better."""

    left: Name
    right: Name
    preferred: Literal["left", "right", "tie"]


class SystemAnswer(BaseModel):
    """A system."""

    name: str
    label: str
    trained: bool
    hybrid: bool


class FieldAnswer(BaseModel):
    """A field by which documents can be filtered."""

    name: str
    type: Literal["integer", "number", "boolean", "string", "list"]


class SystemsAnswer(BaseModel):
    """What can be asked."""

    systems: list[SystemAnswer]
    default: str
    rerank: bool
    fields: list[FieldAnswer]
    feedback: bool
    docs: int


class Part(BaseModel):
    """A document's place in one part of a search."""

    score: float
    rank: int


class Parts(BaseModel):
    """Its places; null: that part did not find it, or was not asked."""

    dense: Part | None
    bm25: Part | None
    teacher: Part | None


class HitAnswer(BaseModel):
    """A document; ``highlights`` are (start, end) in characters of the snippet."""

    id: str
    rank: int
    score: float
    title: str
    snippet: str
    highlights: list[tuple[int, int]]
    passage: str | None
    metadata: dict[str, Any]
    parts: Parts


class BlindAnswer(BaseModel):
    """What was found; ``total`` is how many documents could be, with this filter."""

    search_id: str | None
    query: str
    total: int
    milliseconds: dict[str, float]
    hits: list[HitAnswer]


class SearchAnswer(BlindAnswer):
    """The same with the system's name."""

    model_config = ConfigDict(title="SearchAnswer")
    system: str


class CompareAnswer(BaseModel):
    """Two systems' answers, on sides drawn at random."""

    left: BlindAnswer
    right: BlindAnswer


class Sides(BaseModel):
    """The systems' names, after the preference."""

    left: str
    right: str


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["search"])
    blind = OrderedDict[tuple[str, str], tuple[str, str]]()

    @routes.get("/systems", response_model=SystemsAnswer)
    async def systems() -> Response:
        """The systems that can be asked, and the fields by which documents can be filtered."""
        return json(service.described())

    @routes.post("/search", response_model=SearchAnswer)
    async def search(asked: Search) -> Response:
        """Find documents: by meaning, by words, or both; filtered, reranked, page by page."""
        return json(await answer(service, asked))

    @routes.post("/compare", response_model=CompareAnswer)
    async def compare(asked: Compare) -> Response:
        """One query for two systems, on sides drawn at random and without their names."""
        names = random.sample(asked.systems, 2)
        common: dict[str, Any] = {"query": asked.query, "depth": asked.depth, "where": asked.where}
        common["session"] = asked.session
        found = [await answer(service, Search.model_construct(system=name, **common)) for name in names]
        left, right = ({key: value for key, value in one.items() if key != "system"} for one in found)
        if left["search_id"] is not None:
            blind[left["search_id"], right["search_id"]] = names[0], names[1]
            while len(blind) > BLIND_KEPT:
                blind.popitem(last=False)
        return json({"left": left, "right": right})

    @routes.post("/feedback", status_code=204)
    async def feedback(given: Feedback) -> Response:
        """Record a click on a hit, or a judgement of it."""
        if given.kind == "click":
            await _recorded(service, "record_click", search_id=given.search_id, doc_id=given.doc_id)
        else:
            named = {"search_id": given.search_id, "doc_id": given.doc_id, "grade": given.grade}
            await _recorded(service, "record_judgement", **named)
        return Response(status_code=204)

    @routes.post("/preference", response_model=Sides)
    async def preference(given: Preference) -> Response:
        """Record which of two answers side by side was better, and learn whose they were."""
        names = blind.get((given.left, given.right))
        if names is None and service.log is not None:
            raise RefusedError(404, "these are not the two sides of a comparison that this server lately showed")
        await _recorded(service, "record_preference", **given.model_dump())
        return json(dict(zip(("left", "right"), names or (), strict=True)))

    return routes


async def _recorded(service: Service, act: str, **given: Any) -> Any:
    if service.log is None:
        raise RefusedError(501, "this server keeps no feedback; start it with --feedback FILE")
    return await run_in_threadpool(getattr(service.log, act), **given)


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
