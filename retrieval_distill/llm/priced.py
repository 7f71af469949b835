"""What requests to an endpoint that embeds or reranks have in common: keys, order, tokens and prices.

Knows numbers and options; must not know HTTP, or what a request is about.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from retrieval_distill import formatting
from retrieval_distill.llm.client import Endpoint, NoAnswerError

if TYPE_CHECKING:
    from retrieval_distill.config.endpoint import APIConfig

T = TypeVar("T")

CHARACTERS_PER_TOKEN = 4
"""About as many make a token."""


def key(*parts: str) -> str:
    """What an answer is kept under."""
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()


def in_order(places: Sequence[Any], count: int, values: Sequence[T]) -> list[T]:
    """Values by the places that an answer gives them, whatever order they came in.

    Raises:
        NoAnswerError: The places are not 0 to ``count - 1``, each once.
    """
    if sorted(places) != list(range(count)):
        shown = ", ".join(map(str, sorted(places)[:5]))
        got, wanted = formatting.counted(len(places), "result"), formatting.counted(count, "text")
        raise NoAnswerError(f"{got} for {wanted}, with the indexes {shown}")
    found: list[Any] = [None] * count
    for place, value in zip(places, values, strict=True):
        found[place] = value
    return found


def counted(answer: Any) -> float | None:
    """The tokens that a server says it read; ``None``: it does not say."""
    usage = answer.get("usage") or answer.get("meta", {}).get("tokens") or {}
    found = usage.get("total_tokens") or usage.get("prompt_tokens") or usage.get("input_tokens")
    return float(found) if found else None


def announce(endpoint: Endpoint, options: APIConfig, count: int, what: str, characters: int, requests: int) -> None:
    """Say the number of requests and their price before they are sent."""
    endpoint.announce(count, what, characters, calls=requests, fee=requests * (options.price_requests or 0.0) / 1000)
