"""Words of a text, for counting and comparing. Knows letters; must not know what words are compared for."""

from __future__ import annotations

import re

IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Kana and Chinese characters, each of which counts as a word."""

_WORD = re.compile(rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]+")


def words(text: str) -> list[str]:
    """The words in order, without case or punctuation."""
    return _WORD.findall(text.casefold())


def shingles(text: str, size: int) -> frozenset[str]:
    """All runs of ``size`` words; a shorter text is a single run, as is a text without words."""
    found = words(text) or [text]
    return frozenset(" ".join(found[start : start + size]) for start in range(max(1, len(found) - size + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity: shared elements divided by all elements."""
    return len(one & other) / len(one | other)
