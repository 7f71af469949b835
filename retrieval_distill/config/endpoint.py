"""Models on servers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from retrieval_distill.config.section import Section


def _variable(name: str) -> str:
    """The name of an environment variable; whatever looks otherwise may be the key itself."""
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise PydanticCustomError(
            SECRET, "this is the name of an environment variable, in capitals, not the key itself"
        )
    return name


SECRET = "secret"
"""Type of a mistake whose value must not be shown."""

ASKING = {"key_variable", "concurrency", "timeout", "attempts", "price_in", "price_out"}
"""Keys that the client of every endpoint takes."""


class EndpointConfig(Section):
    """A language model behind an OpenAI-compatible endpoint, and how it is asked."""

    endpoint: str | None = None
    """Base URL, such as ``http://localhost:8000/v1``."""
    key_variable: Annotated[str, AfterValidator(_variable)] = "OPENAI_API_KEY"
    """The environment variable that holds the API key; a local server may need none."""
    max_characters: int = Field(6000, ge=100)
    """Documents are cut to this."""
    concurrency: int = Field(8, ge=1)
    """Requests under way at once."""
    timeout: float = Field(60.0, gt=0)
    """Seconds that one answer may take."""
    attempts: int = Field(6, ge=1)
    """Tries per question before asking stops."""
    price_in: float | None = Field(None, ge=0)
    """Price of a million tokens sent, for the estimate; ``None``: no estimate."""
    price_out: float | None = Field(None, ge=0)
    """Price of a million tokens received."""


class APIConfig(EndpointConfig):
    """A model behind an endpoint that embeds or reranks."""

    model: str | None = None
    """Its name on the server; ``None``: the name it has here."""
    speaks: Literal["v1", "tei"] = "v1"
    """``v1``: ``/embeddings`` as OpenAI has it and ``/rerank`` as Cohere and Jina have it; the base URL usually ends in
    ``/v1``. ``tei``: ``/embed`` and ``/rerank`` of Hugging Face's text-embeddings-inference."""
    batch: int = Field(32, ge=1)
    """Documents that one request embeds, or reranks for a query."""
    price_requests: float | None = Field(None, ge=0)
    """Price of a thousand requests, where these are what is paid for."""
    query_prefix: str = ""
    """Put before every query that is embedded."""
    document_prefix: str = ""
    """Put before every document that is embedded."""
    query_fields: dict[str, Any] = {}
    """Further fields of a request that embeds queries, such as ``{input_type: search_query}``."""
    document_fields: dict[str, Any] = {}
    """The same for documents."""
    rerank_fields: dict[str, Any] = {}
    """The same for a request that reranks."""
