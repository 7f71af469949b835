"""Checks queries: not empty, valid Unicode, and not longer than any model reads.

Knows strings; must not know models or indexes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from contextlib import suppress

from retrieval_distill.data.dataset import Texts
from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")

MAX_CHARACTERS = 20_000
"""Most characters of a query that are used: more than the 8,192 tokens of the longest encoders, in English."""

CONTROLS = re.compile(
    r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[NO].|\x1b.?|[\x00-\x1f\x7f-\x9f]", re.DOTALL
)
"""Escape sequences of keys such as the up arrow, and other terminal control characters."""


def clean_input(text: str) -> str:
    """Typed text without terminal control sequences, decoded as UTF-8 even if the terminal claims ASCII."""
    with suppress(UnicodeError):
        text = text.encode("utf-8", "surrogateescape").decode()
    return CONTROLS.sub(" ", text).strip()


def question(text: str, name: str = "the query") -> str:
    """A checked query; one that is too long is truncated with a warning.

    Args:
        text: The user's text.
        name: The query's name, for the message.

    Raises:
        UserError: It is empty, or contains a lone surrogate.
    """
    if not text.strip():
        raise UserError(f"{name} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} is not valid Unicode text: it contains a lone surrogate") from None
    if len(text) > MAX_CHARACTERS:
        logger.warning(
            "%s has %s characters; only the first %s are used", name, f"{len(text):,}", f"{MAX_CHARACTERS:,}"
        )
    return text[:MAX_CHARACTERS]


def questions(pairs: Iterable[tuple[str, str]]) -> Texts:
    """Queries, (id, text), each checked by :func:`question`; messages name their ids.

    Raises:
        UserError: One is empty.
    """
    return Texts.from_records((id_, "", question(text, f"query {id_!r}")) for id_, text in pairs)
