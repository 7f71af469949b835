"""Queries without a model: parts of a document serve as queries for it.

Each way yields a document's queries, best first, each with the document without that part. If the query stayed in its
document, a student would only learn to match equal words; yet some are left in, because equal words do matter. Source:
Lee, Chang and Toutanova, "Latent Retrieval for Weakly Supervised Open Domain Question Answering", ACL 2019,
arXiv:1906.00300, section 5 (the inverse cloze task; 90 % are removed). A title used as a query is removed likewise.

Knows texts; must not know which queries are kept.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import unescape
from itertools import accumulate, zip_longest

from retrieval_distill.data.columns import Record
from retrieval_distill.data.prepare.sentences import sentences as split
from retrieval_distill.data.prepare.words import IDEOGRAPHS, words
from retrieval_distill.generate.query_generator import QueriesByRow, Query, seeded_rng
from retrieval_distill.generate.salience import Salience

Find = Callable[[str, str], Iterable[Query]]
"""(title, text) -> queries, best first."""


@dataclass(frozen=True)
class Offline:
    """A way that processes one document at a time."""

    name: str
    find: Find
    keep: float
    """Share of the queries that stay in their document."""
    seed: int

    def make(self, documents: Sequence[Record], counts: Sequence[int], done: Sequence[bool]) -> Iterator[QueriesByRow]:
        """See :class:`retrieval_distill.generate.query_generator.QueryGenerator`."""
        for row, (id_, title, text) in enumerate(documents):
            if not done[row]:
                rng = seeded_rng(self.seed, self.name, id_, "keep")
                found = list(self.find(title, text))[: counts[row]]
                yield {row: [q.with_whole_document() if rng.random() < self.keep else q for q in found]}


def titles(title: str, text: str) -> Iterator[Query]:
    """The title -> the text without it."""
    rest = _without_beginning(text, title)
    if title.strip() and rest:
        yield Query(_line(title), ("", rest))


def summary(title: str, text: str) -> Iterator[Query]:
    """The first sentence -> the title and the other sentences."""
    found = _sentences(text)
    if len(found) > 1:
        yield Query(_line(found[0]), (title, "".join(found[1:]).strip()))


def salient_sentences(salience: Salience) -> Find:
    """Every sentence -> the title and the other sentences; the most salient sentences first."""

    def find(title: str, text: str) -> Iterator[Query]:
        found = _sentences(text)
        if len(found) > 1:
            for at in salience.rank(found):
                yield Query(_line(found[at]), (title, "".join(found[:at] + found[at + 1 :]).strip()))

    return find


KEYWORDS = 6
"""Words of a query of keywords at most."""


def keywords(salience: Salience) -> Find:
    """The most salient words of every sentence, as one types them into a search box -> what ``sentences`` leaves."""
    of_sentences = salient_sentences(salience)

    def find(title: str, text: str) -> Iterator[Query]:
        for found in of_sentences(title, text):
            yield replace(found, text=" ".join(salience.best_words(words(found.text), KEYWORDS)))

    return find


_HEADING = re.compile(
    r"""^[ ]{0,3}\#{1,6}[ \t]+(?P<atx>[^\n]+?)[ \t]*\#*[ \t]*$"""  # Markdown: ## heading
    r"""|^(?P<under>\S[^\n]*)\n(?:=+|-+)[ \t]*$"""  # Markdown and reStructuredText: underlined
    r"""|<h(?P<rank>[1-6])\b[^>]*>(?P<html>.*?)</h(?P=rank)>""",  # HTML
    re.MULTILINE | re.IGNORECASE | re.DOTALL,
)

_CODE = re.compile(
    r"""^[ ]{0,3}(?P<fence>`{3,}|~{3,})[^\n]*$.*?(?:^[ ]{0,3}(?P=fence)[`~]*[ \t]*$|\Z)|<pre\b.*?</pre>""",
    re.MULTILINE | re.IGNORECASE | re.DOTALL,
)
"""Code in Markdown and HTML, where ``#`` begins a comment, not a heading."""

_TAG = re.compile(r"<[^>]+>")

WORDS_ALONE = 3
"""Headings with fewer words get the document's title in front, since they mean little alone."""


def headings(title: str, text: str) -> Iterator[Query]:
    """Each heading of Markdown, reStructuredText or HTML -> its section, up to the next heading of any level."""
    blank = _CODE.sub(
        lambda code: re.sub(r"[^\n]", " ", code[0]), text
    )  # same length as the text, with code blanked out
    found = list(_HEADING.finditer(blank))
    for heading, after in zip_longest(found, found[1:]):
        section = _plain(text[heading.end() : after.start() if after else None]).strip()
        query = _line(_plain(heading["atx"] or heading["under"] or heading["html"]))
        if query and section:
            alone = len(words(query)) >= WORDS_ALONE
            yield Query(query if alone else _line(f"{title} {query}"), (title if alone else "", section))


_REST_OF_WORD = re.compile(rf"['\u2019.\u2010\u2011-]?[^\W{IDEOGRAPHS}]")
"""A continued word, as in Car|go, Car|'s, Car|-free and 3|.5."""


def _without_beginning(text: str, title: str) -> str:
    """The text without a leading title, in any case, unless the title ends within a word."""
    text = text.strip()
    end = _end_of(title.strip().casefold(), text)
    return text if end is None or _cuts_a_word(text, end) else text[end:].strip()


def _cuts_a_word(text: str, end: int) -> bool:
    marked = unicodedata.category(text[end : end + 1] or " ").startswith("M")
    return marked or _REST_OF_WORD.match(text, end) is not None


def _end_of(folded: str, text: str) -> int | None:
    """Number of leading characters that casefold to ``folded``; ``None`` if the text begins differently."""
    lengths = accumulate(len(character.casefold()) for character in text[: len(folded)])
    end = next((end for end, length in enumerate(lengths, 1) if length >= len(folded)), 0)
    return end if text[:end].casefold() == folded else None


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in split(text) if words(sentence)]


def _plain(text: str) -> str:
    return unescape(_TAG.sub(" ", text))


def _line(text: str) -> str:
    return " ".join(text.split())
