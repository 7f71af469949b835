"""Limits of what clients may ask, and of how long they may take to ask it."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DEPTH, MAX_OFFSET = 100, 1000
"""Most hits of a page, and before it."""


@dataclass(frozen=True)
class Limits:
    """Bounds of requests, in the units that their comments name."""

    body: int = 8 << 20
    """Bytes of a request's body."""
    texts: int = 2048
    """Texts of one request to embed, as in OpenAI's API; also documents of one request to rerank."""
    characters: int = 100_000
    """Characters of one text."""
    waiting: int = 4096
    """Items that wait for a stage; a request beyond them is told to come back."""
    body_seconds: float = 30.0
    """Time for a request's body to arrive."""
    stop_seconds: int = 30
    """Time for requests to end after SIGTERM."""
    watch_seconds: float = 2.0
    """Time between looks at the folders."""
