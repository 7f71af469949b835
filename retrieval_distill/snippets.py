"""Cuts from a text the part that answers a query, in plain words.

Knows words, sentences and the marks of Markdown; must not know where a text is from or how its snippet is shown.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

SNIPPET = 280
"""Characters of a snippet."""

REACH = 3 * SNIPPET
"""Characters of a text, from the sentence that matches best on, that a snippet is made of."""

_BREAK = re.compile(r"[.!?]\s+|\n\s*\n")
"""What stands between two sentences, with the sign that ends the first."""

_WORD = re.compile(r"\w+")


def _heading(found: re.Match[str]) -> str:
    """A heading's words, set off from what follows."""
    return found[1] if found[1][-1] in ":.?!#" else f"{found[1]}:"


_MARKS: tuple[tuple[tuple[str, ...], re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (("```", "~~~"), re.compile(r"^ {0,3}(?:`{3,}|~{3,})[^`\n]*$", re.M), ""),
    (("---", "===", "***"), re.compile(r"^[-=+*|: \t\r]{3,}$", re.M), ""),
    (("#",), re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t\r]*$", re.M), _heading),
    (("](",), re.compile(r"(?<![\w)\]])!?\[([^\]\n]+)\]\([^)\s]*(?:[ \t]+\"[^\"\n]*\")?\)"), r"\1"),
    (("**",), re.compile(r"(?<![\w*])\*\*(?=[^\s*])([^*\n]+)(?<=\S)\*\*(?![\w*])"), r"\1"),
)
"""Marks of Markdown: signs without which there are none, where they stand, and what is left of them. In this order:
fences of code, rules and underlines, headings, links and pictures, bold text. A sign that other texts use as well, such
as one ``*`` or ``_``, stays."""


def snippet(text: str, query: str) -> str:
    """The part of a passage that shares most words with the query, about ``SNIPPET`` characters long."""
    return "".join(snippet_parts(text, query))


def snippet_parts(text: str, query: str) -> tuple[str, str, str]:
    """The snippet in three parts: a leading ellipsis if text is skipped, the sentence that matches best, the rest."""
    text = text.strip()
    start, end = best_sentence(text, query)
    reach = start + REACH
    sentence, rest = plain(text[start : min(end, reach)]), plain(text[end:reach])
    shown = f"{sentence} {rest}".strip()
    if len(shown) > SNIPPET or len(text) > reach:
        shown = shown[:SNIPPET].rsplit(" ", 1)[0] + " ..."
    return "... " if start else "", shown[: len(sentence)], shown[len(sentence) :]


def plain(text: str) -> str:
    """A text on one line, without the marks of Markdown; a heading ends with a colon."""
    for signs, mark, left in _MARKS:
        if any(sign in text for sign in signs):
            text = mark.sub(left, text)
    return " ".join(text.split())


def best_sentence(text: str, query: str) -> tuple[int, int]:
    """Where the sentence begins that shares most with the query, and where the next one begins.

    A word counts more the fewer sentences contain it, so "it" and "what" decide little; of equals, and where no word is
    shared, it is the first. The query's words are looked up in the text, so that its own need not be looked at.

    Args:
        text: Without white space around it.
        query: Any words.
    """
    spaced = f" {_fold(text)} ".translate(_SPACES)
    starts = [0, *(match.end() for match in _BREAK.finditer(text))]
    worth: dict[int, list[float]] = {}
    for word in set(_WORD.findall(_fold(query))):
        holders = list(_holders(word, spaced, starts))
        for number in holders:
            worth.setdefault(number, []).append(math.log1p(len(starts) / len(holders)))
    best = min(worth, key=lambda number: (-math.fsum(worth[number]), number), default=0)
    return starts[best], [*starts, len(text)][best + 1]


def _holders(word: str, spaced: str, starts: Sequence[int]) -> Iterator[int]:
    """The numbers of the sentences that contain a word."""
    number = 0
    while number < len(starts) and (at := spaced.find(f" {word} ", starts[number])) >= 0:
        number = bisect_right(starts, at)
        yield number - 1


class _Spaces(dict[int, str]):
    """What is no character of a word, as regular expressions see it, becomes a space."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        return self.setdefault(code, character if character.isalnum() or character == "_" else " ")


_SPACES = _Spaces()


def _fold(text: str) -> str:
    """In lower case, as long as before: of all letters, only this one would become two."""
    return text.replace("\u0130", "i").lower()
