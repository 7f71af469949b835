"""Words of a text, for counting and comparing. Knows letters; must not know what words are compared for."""

from __future__ import annotations

import re

IDEOGRAPHS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
"""Kana and Chinese characters: written without spaces, so that each counts as a word."""

_WORD = re.compile(rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]+")


def words(text: str) -> list[str]:
    """The words in order, without case or punctuation."""
    return _WORD.findall(text.casefold())


def shingles(text: str, size: int) -> frozenset[str]:
    """Every run of ``size`` words; a shorter text is one run. Without any word, the text itself is."""
    found = words(text) or [text]
    return frozenset(" ".join(found[start : start + size]) for start in range(max(1, len(found) - size + 1)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Share of the runs that both have among those that either has."""
    return len(one & other) / len(one | other)
