"""What may be asked: no empty query, and none longer than any model would read.

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

LONGEST = 20_000
"""Characters of a query that are read: more than fill the 8,192 tokens of the longest encoders in English."""

CONTROLS = re.compile(
    r"\x1b\][^\x07\x1b]*(\x07|\x1b\\)?|\x1b\[[0-?]*[ -/]*[@-~]|\x1b[NO].|\x1b.?|[\x00-\x1f\x7f-\x9f]", re.DOTALL
)
"""What a key such as the up-arrow leaves where nothing reads it, and other controls of terminals."""


def typed(text: str) -> str:
    """What a person typed, without a terminal's controls, and as UTF-8 where the terminal claims ASCII."""
    with suppress(UnicodeError):
        text = text.encode("utf-8", "surrogateescape").decode()
    return CONTROLS.sub(" ", text).strip()


def question(text: str, name: str = "the query") -> str:
    """A query as it is asked; one that is too long is cut, and a warning says so.

    Args:
        text: As the user wrote it.
        name: Which query, for the message.

    Raises:
        UserError: It is empty, or holds half a character.
    """
    if not text.strip():
        raise UserError(f"{name} is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UserError(f"{name} is not Unicode text: it holds half a character") from None
    if len(text) > LONGEST:
        logger.warning("%s has %s characters; the first %s are read", name, f"{len(text):,}", f"{LONGEST:,}")
    return text[:LONGEST]


def questions(asked: Iterable[tuple[str, str]]) -> Texts:
    """Queries, (id, text), each as :func:`question` gives it; their ids tell them apart in messages.

    Raises:
        UserError: One is empty.
    """
    return Texts.from_records((id_, "", question(text, f"query {id_!r}")) for id_, text in asked)
