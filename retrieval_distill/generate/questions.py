"""Questions in English, made of a document's first sentence or title by rules.

    A ribosome is a machine that ...   -> what is a ribosome
    Split the extension from a path.   -> how do I split the extension from a path
    any other, with a title            -> what is known about TITLE

Knows texts; must not know which queries are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from retrieval_distill.generate.offline import summary, titles
from retrieval_distill.generate.query_generator import Query

_DEFINITION = re.compile(r"(?P<subject>\w[\w' -]{1,60}?) (?P<verb>is|are) (?:an?|the|any|one|some)\b", re.IGNORECASE)

_PRONOUNS = frozenset("it this that there these those here which what who he she they we i you".split())
"""Subjects that mean nothing without the text before them."""

_IMPERATIVES = frozenset(
    "add apply append build calculate call change check choose clear close combine compare compile compute configure "
    "connect convert copy count create decode define delete detect determine disable download draw enable encode "
    "ensure estimate evaluate execute export extract fill filter find fit format generate get group handle import "
    "insert install iterate join list load make map match measure merge move open parse perform plot prepare print "
    "raise read register remove rename replace request reset resolve return run save search select send serve set show "
    "sort split start stop store test transform turn unpack update upload use validate verify wait wrap write".split()
)
"""Verbs that begin an instruction, or the summary of a function."""


def questions(title: str, text: str) -> Iterator[Query]:
    """A question about the document -> the document without the sentence, or the title, that it was made of."""
    for found in summary(title, text):
        if asked := _of_sentence(found.text):
            yield replace(found, text=asked)
    for found in titles(title, text):
        yield replace(found, text=f"what is known about {_without_stop(found.text)}")


def _of_sentence(sentence: str) -> str | None:
    """The question that a sentence answers; ``None``: no rule knows one."""
    definition = _DEFINITION.match(sentence)
    if definition and definition["subject"].split()[0].casefold() not in _PRONOUNS:
        return f"what {definition['verb'].lower()} {_lower_first(definition['subject'])}"
    if sentence.split()[0].casefold() in _IMPERATIVES:
        return f"how do I {_lower_first(_without_stop(sentence))}"
    return None


def _without_stop(sentence: str) -> str:
    return sentence.rstrip(" .!?:;")


def _lower_first(text: str) -> str:
    """With a small first letter, unless the first word is written in capitals."""
    first = text.split()[0]
    return text if first[1:] != first[1:].lower() else text[0].lower() + text[1:]
