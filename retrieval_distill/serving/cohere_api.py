"""Cohere's API of reranking: ``/v1/rerank``, and ``/v2/rerank``, which is the same without ``return_documents``.

Knows that API's shapes; must not know how texts are scored.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from retrieval_distill.serving.answers import LooseBody, Name, json
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.reranking import ranked
from retrieval_distill.serving.service import Service


class Document(LooseBody):
    """A document."""

    text: str


class Rerank(LooseBody):
    """A query and the documents to order."""

    query: str
    documents: list[str | Document]
    model: Name | None = None
    top_n: Annotated[int, Field(ge=1)] | None = None
    return_documents: bool = False


class DocumentAnswer(BaseModel):
    """A document."""

    text: str


class Result(BaseModel):
    """One document's score, between 0 and 1."""

    index: int
    relevance_score: float
    document: DocumentAnswer | None = None


class RerankAnswer(BaseModel):
    """The documents, best first."""

    id: str
    results: list[Result]
    meta: dict[str, Any]


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["cohere"])

    @routes.post("/v1/rerank", response_model=RerankAnswer)
    @routes.post("/v2/rerank", response_model=RerankAnswer)
    async def rerank(asked: Rerank) -> Response:
        """Order documents by the teacher's scores for a query, best first."""
        if asked.model not in (None, "teacher", service.teacher_name):
            told = f"the model {asked.model!r} does not exist; this server reranks with: teacher"
            raise RefusedError(404, told, param="model", code="model_not_found")
        texts = [one if isinstance(one, str) else one.text for one in asked.documents]
        found = await ranked(service, asked.query, texts, raw=False, param="documents")
        results = [
            {"index": index, "relevance_score": score}
            | ({"document": {"text": texts[index]}} if asked.return_documents else {})
            for index, score in found[: asked.top_n]
        ]
        meta = {"api_version": {"version": "1"}, "billed_units": {"search_units": 0}}
        return json({"id": str(uuid.uuid4()), "results": results, "meta": meta})

    return routes
