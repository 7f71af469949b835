"""The search API: ``/search``, ``/compare``, ``/systems``, ``/feedback``, ``/preference``.

Knows requests and answers; must not know how documents are found.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from retrieval_distill.search.hits import highlights
from retrieval_distill.search.questions import question
from retrieval_distill.serving.service import Service

MAX_DEPTH, MAX_OFFSET = 100, 1000

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Request(BaseModel):
    """A request's body; unknown keys are refused, as they are misspelled ones."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Search(Request):
    """What to look for."""

    query: str | None = None
    depth: Annotated[int, Field(ge=1, le=MAX_DEPTH)] = 10
    offset: Annotated[int, Field(ge=0, le=MAX_OFFSET)] = 0
    system: Name | None = None
    rerank: bool = False
    where: dict[str, Any] | None = None
    like: Name | None = None
    interleave: tuple[Name, Name] | None = None
    session: Name | None = None


class Feedback(Request):
    """What a user did with a hit."""

    search_id: Name
    doc_id: Name
    kind: Literal["click", "judgement"]
    grade: Annotated[int, Field(ge=-1, le=3)] | None = None


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["search"])

    @routes.get("/systems")
    async def systems() -> dict[str, Any]:
        """The systems that can be asked, the fields by which documents can be filtered."""
        return service.described()

    @routes.post("/search")
    async def search(asked: Search) -> dict[str, Any]:
        """Find documents."""
        return await run_in_threadpool(_search, service, asked)

    @routes.post("/feedback", status_code=204)
    async def feedback(given: Feedback) -> Response:
        """Record a click or a judgement of a hit."""
        return Response(status_code=204)

    return routes


def _search(service: Service, asked: Search) -> dict[str, Any]:
    engine = service.engine
    query, system = question(asked.query or ""), engine.system(asked.system)
    found = engine.find(query, system, asked.offset + asked.depth, engine.fields.allowed(asked.where))
    listed = found.hits[asked.offset :]
    return {
        "search_id": None,
        "query": query,
        "system": system.name,
        "total": system.searcher.size,
        "milliseconds": {"encode": 0.0, "rerank": 0.0, "total": found.milliseconds["search"], **found.milliseconds},
        "hits": [
            {
                "id": hit.id,
                "rank": hit.rank,
                "score": hit.score,
                "title": hit.title,
                "snippet": hit.snippet,
                "highlights": highlights(hit.snippet, query),
                "passage": hit.passage if hit.passage != hit.id else None,
                "metadata": engine.fields.values(hit.id),
                "parts": {
                    part: _part(found.parts.get(part, {}).get(hit.passage)) for part in ("dense", "bm25", "teacher")
                },
            }
            for hit in listed
        ],
    }


def _part(place: tuple[float, int] | None) -> dict[str, float] | None:
    return None if place is None else {"score": place[0], "rank": place[1]}
