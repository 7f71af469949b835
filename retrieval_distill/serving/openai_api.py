"""OpenAI's API of embeddings: ``/v1/embeddings`` and ``/v1/models``, for its unmodified clients.

Knows that API's shapes; must not know how texts are embedded.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from retrieval_distill.serving.answers import LooseBody, Name, json
from retrieval_distill.serving.engine import Engine
from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.service import Service
from retrieval_distill.serving.systems import Encoder
from retrieval_distill.serving.texts import checked
from retrieval_distill.student import loading


class Embeddings(LooseBody):
    """Texts to embed; ``input_type`` is no key of OpenAI's, and chooses the prompt of a model that has two."""

    model: Name
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    input_type: Literal["document", "query"] = "document"
    user: str | None = None


class Embedding(BaseModel):
    """One vector: numbers, or their bytes in base64 (float32, little-endian)."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(BaseModel):
    """A model that embeds."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelsAnswer(BaseModel):
    """The models that embed."""

    object: Literal["list"]
    data: list[Model]


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["openai"])

    @routes.get("/models", response_model=ModelsAnswer)
    async def models() -> Response:
        """The models that embed."""
        found = [
            {"id": name, "object": "model", "created": 0, "owned_by": "retrieval-distill"}
            for name in service.engine.encoders
        ]
        return json({"object": "list", "data": found})

    @routes.post("/embeddings", response_model=EmbeddingsAnswer)
    async def embeddings(asked: Embeddings) -> Response:
        """Embed texts. Those beyond the model's token limit are truncated, as ``embed`` does."""
        encoder = encoder_of(service.engine, asked.model)
        texts = checked(_texts(asked.input), service.limits, "input")
        size = dimensions_of(encoder, asked.dimensions)
        work = encoder.of_queries if asked.input_type == "query" else encoder.of_documents
        found = await service.do("encode", work, texts)
        vectors = [shortened(vector, size) for vector, _ in found]
        tokens = sum(count for _, count in found)
        data = [
            {"object": "embedding", "index": number, "embedding": _written(vector, asked.encoding_format)}
            for number, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json({"object": "list", "data": data, "model": asked.model, "usage": usage})

    return routes


def encoder_of(engine: Engine, name: str) -> Encoder:
    """The model of a name: ``student`` or ``start``, or the name by which it was opened.

    Raises:
        RefusedError: There is no such model.
    """
    named = {**{encoder.model: encoder for encoder in engine.encoders.values()}, **engine.encoders}
    if name not in named:
        known = ", ".join(engine.encoders)
        told = f"the model {name!r} does not exist; this server has: {known}"
        raise RefusedError(404, told, param="model", code="model_not_found")
    return named[name]


def shortened(vector: np.ndarray, size: int | None) -> np.ndarray:
    """The first dimensions of a vector, scaled to the whole one's length; ``None``: all."""
    if size is None or size == len(vector):
        return vector
    cut = vector[:size]
    scale = np.linalg.norm(vector) / max(float(np.linalg.norm(cut)), 1e-12)
    return np.asarray(cut * np.float32(scale), np.float32)


def dimensions_of(encoder: Encoder, asked: int | None) -> int | None:
    """The dimensions that a client asked for; ``None``: all.

    Raises:
        RefusedError: The model was not trained to have its vectors cut so.
    """
    full = loading.dimensions(encoder.loaded)
    known = sorted({*encoder.dimensions, full})
    if asked is None or asked in known:
        return asked
    sizes = ", ".join(map(str, known))
    told = f"dimensions: this model's vectors can have {sizes}; for others, train it with such views"
    raise RefusedError(400, told, param="dimensions")


def _texts(given: Any) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if not all(isinstance(text, str) for text in texts):
        raise RefusedError(400, "input: send texts; token ids are those of other models", param="input")
    return list(texts)


def _written(vector: np.ndarray, form: str) -> Any:
    if form == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.tolist()
