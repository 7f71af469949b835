"""Normalises Unicode and white space. Knows characters; must not know ids.

Normal forms: Unicode Standard Annex #15.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from retrieval_distill.config import PrepareConfig
from retrieval_distill.data.columns import Record

_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\ufffe\uffff]")
"""Control characters other than white space, zero-width spaces and byte-order marks."""

_BREAK = re.compile(r"[^\S\n\r\x0b\x0c\x85\u2028\u2029]*[\n\r\x0b\x0c\x85\u2028\u2029]\s*")
_SPACE = re.compile(r"[^\S\n]+")


def records(texts: Iterable[Record], config: PrepareConfig) -> Iterator[Record]:
    """The records with normalised titles and texts."""
    for id_, title, text in texts:
        yield id_, normalise_text(title, config), normalise_text(text, config)


def normalise_text(text: str, config: PrepareConfig) -> str:
    """A text, normalised according to the options; idempotent."""
    if config.unicode != "keep":
        text = unicodedata.normalize(config.unicode, text)
    if not config.whitespace:
        return text
    text = _SPACE.sub(" ", _BREAK.sub("\n", _CONTROL.sub("", text))).strip()
    return text if config.unicode == "keep" else unicodedata.normalize(config.unicode, text)
