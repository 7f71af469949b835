"""The search API: ``/search``, ``/compare``, ``/systems``, ``/feedback``, ``/preference``.

Knows routes and the feedback log; must not know how a search is answered.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Any

from fastapi import APIRouter, Response
from starlette.concurrency import run_in_threadpool

from retrieval_distill.serving.answering import answer
from retrieval_distill.serving.answers import json
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.search_bodies import (
    Compare,
    CompareAnswer,
    Feedback,
    Preference,
    Search,
    SearchAnswer,
    Sides,
    SystemsAnswer,
)
from retrieval_distill.serving.service import Service

BLIND_KEPT = 10_000
"""Comparisons whose names are remembered until the preference comes."""


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
