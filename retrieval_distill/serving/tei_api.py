"""The API of text-embeddings-inference: ``/embed`` and ``/rerank``.

Knows that API's shapes; must not know how texts are embedded or scored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from retrieval_distill.serving.answers import LooseBody, json
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.openai_api import dimensions_of, shortened
from retrieval_distill.serving.reranking import ranked
from retrieval_distill.serving.service import Service
from retrieval_distill.serving.texts import checked


class Embed(LooseBody):
    """Texts to embed; ``prompt_name`` is ``document`` or ``query``."""

    inputs: str | list[str]
    normalize: bool = True
    truncate: bool = True
    prompt_name: Literal["document", "query"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None


class Rerank(LooseBody):
    """A query and the texts to order."""

    query: str
    texts: list[str]
    raw_scores: bool = False
    return_text: bool = False
    truncate: bool = True


class Rank(BaseModel):
    """One text's score; between 0 and 1 unless it is raw."""

    index: int
    score: float
    text: str | None = None


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["text-embeddings-inference"])

    @routes.post("/embed", response_model=list[list[float]])
    async def embed(asked: Embed) -> Response:
        """Embed texts with the student; one that is too long is truncated, or with ``truncate: false`` refused."""
        encoder = service.engine.encoders["student"]
        given = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
        texts = checked(given, service.limits, "inputs")
        size = dimensions_of(encoder, asked.dimensions)
        work = encoder.of_queries if asked.prompt_name == "query" else encoder.of_documents
        if not asked.truncate and (most := encoder.limit) is not None:
            for count in await service.do("encode", encoder.lengths, texts):
                if count > most:
                    raise RefusedError(413, f"inputs must have at most {most} tokens; one has {count}")
        vectors = [shortened(vector, size) for vector, _ in await service.do("encode", work, texts)]
        return json([_unit(vector).tolist() if asked.normalize else vector.tolist() for vector in vectors])

    @routes.post("/rerank", response_model=list[Rank])
    async def rerank(asked: Rerank) -> Response:
        """Order texts by the teacher's scores for a query, best first."""
        found = await ranked(service, asked.query, asked.texts, raw=asked.raw_scores, param="texts")
        texts: list[dict[str, Any]] = [{"text": asked.texts[index]} if asked.return_text else {} for index, _ in found]
        ranks = zip(found, texts, strict=True)
        return json([{"index": index, "score": score, **text} for (index, score), text in ranks])

    return routes


def _unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1; one that has it already keeps its bits."""
    length = float(np.linalg.norm(vector))
    return vector if abs(length - 1) < 1e-6 or not length else np.asarray(vector / np.float32(length), np.float32)
