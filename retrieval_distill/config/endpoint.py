"""A language model on a server."""

from __future__ import annotations

from pydantic import Field

from retrieval_distill.config.section import Section


class EndpointConfig(Section):
    """A language model behind an OpenAI-compatible endpoint, and how it is asked."""

    endpoint: str | None = None
    """Base URL, such as ``http://localhost:8000/v1``; the key is read from ``OPENAI_API_KEY``."""
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
