"""Snippets: the sentence that answers, found by looking words up, in plain words."""

from __future__ import annotations

import math
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.data.formats.documents import read
from retrieval_distill.data.formats.reading import Reading
from retrieval_distill.snippets import REACH, SNIPPET, best_sentence, plain, snippet, snippet_parts

PIECES = ["Wing", "lift", "a", "I", "İ", "Σίσυφος", "ΑΣ", "cafe\u0301", "_x", "x2", "翼", "it's", "lifting", " ", "  ", "\n",
          "\n\n", "\n \n", ". ", "! ", "?", ".", "\x85", "\u2028", "\u3000", "# ", "**"]  # fmt: skip
texts = st.one_of(st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.text(max_size=60)).map(str.strip)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.replace("İ", "i").lower())


def sentences(text: str) -> list[str]:
    return [part.strip() for part in re.split(r"(?<=[.!?])\s+|\n\s*\n", text) if part.strip()]


def straightforward(text: str, query: str) -> str:
    """The best sentence by the words of every sentence."""
    every = sentences(text) or [""]
    shared = [set(words(query)).intersection(words(sentence)) for sentence in every]
    held = Counter(word for found in shared for word in found)
    worth = [math.fsum(math.log1p(len(every) / held[word]) for word in found) for found in shared]
    return every[worth.index(max(worth))]


@given(texts, st.one_of(texts, st.lists(st.sampled_from(PIECES), max_size=5).map(" ".join)))
def test_looking_words_up_finds_the_sentence_that_counting_all_finds(text, query):
    start, end = best_sentence(text, query)
    assert text[start:end].strip() == straightforward(text, query)


@given(texts, texts)
def test_a_snippet_is_short_and_on_one_line(text, query):
    shown = snippet(text, query)
    assert len(shown) <= len("... ") + SNIPPET + len(" ...") and shown == "".join(snippet_parts(text, query))
    assert shown.split() == shown.split(" ") or not shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("# Set-up\n\nRun it.", "Set-up: Run it."),
        ("## Why? ##\nBecause.", "Why? Because."),
        ("### About C#\nA language.", "About C# A language."),
        ("Setting up\n==========\nRun it.", "Setting up Run it."),
        ("```bash\npip install x\n```\nThen run it.", "pip install x Then run it."),
        ("| a | b |\n|---|:-:|\n| 1 | 2 |", "| a | b | | 1 | 2 |"),
        ("See [the guide](docs/guide.md#run \"Guide\") and ![a chart](x.png).", "See the guide and a chart."),
        ("It is **very** fast, **not slow**.", "It is very fast, not slow."),
        ("f(*args, **kwargs) and g(**kwargs)", "f(*args, **kwargs) and g(**kwargs)"),
        ("2**3 and 4**5, a * b, __init__, #tag, handlers[name](event)",
         "2**3 and 4**5, a * b, __init__, #tag, handlers[name](event)"),
        (">>> x = 1  # one\n-- no rule", ">>> x = 1 # one -- no rule"),
    ],
)  # fmt: skip
def test_marks_of_markdown_are_left_out_and_signs_of_other_texts_are_not(text, shown):
    assert plain(text) == " ".join(shown.split())


def test_a_document_in_markdown_is_shown_in_plain_words(tmp_path):
    """As it is read from a folder, where headings keep their marks, for they may become queries."""
    (tmp_path / "manual.md").write_text(
        "# Manual\n\nWhat it is.\n\n## Set-up on *Linux*\n\nRun `pip`:\n\n```bash\npip install x\n```\n\nThat is all.\n"
    )
    _, _, text = next(iter(read(str(tmp_path), Reading()).documents.records()))
    assert "## Set-up" in text and "```" in text
    assert snippet(text, "linux set-up") == "... Set-up on Linux: Run pip: pip install x That is all."
    assert snippet_parts(text, "what")[1] == "What it is."


def test_of_a_long_text_the_place_that_answers_is_shown():
    text = "It says nothing. " * 5000 + "Lift acts on a wing. " + "And more of it, at length. " * 500
    shown = snippet(text, "what lifts the wing")
    assert shown.startswith("... Lift acts on a wing. And more") and shown.endswith(" ...")
    assert len(plain(text[: 2 * REACH])) > SNIPPET


def test_a_letter_that_becomes_two_in_lower_case():
    assert snippet("One. İstanbul is İt. Two.", "istanbul").startswith("... İstanbul")
    assert snippet("İİİİ. Die Straße.", "straße") == "... Die Straße."
