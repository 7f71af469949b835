"""Search results for people: the snippet shows the part of a passage that answers."""

from __future__ import annotations

import io

from rich.console import Console

from retrieval_distill.cli.hits import show
from retrieval_distill.search.hits import Hit
from retrieval_distill.snippets import SNIPPET, snippet

TEXT = "Reads a file into memory. Splits a path into root and extension. Ends here."


def test_the_snippet_begins_where_the_words_are():
    assert snippet(TEXT, "root and extension") == "... Splits a path into root and extension. Ends here."
    assert snippet(TEXT, "file") == TEXT
    assert snippet(TEXT, "nothing shared") == TEXT
    assert snippet("", "file") == ""


def test_words_that_every_sentence_has_decide_little():
    text = "It is what it is and has its causes. It is said to hurt. It is what many have. Rest is what it needs."
    assert snippet(text, "what is it that hurts, or causes it").startswith("It is what it is and has its causes.")
    assert snippet(text, "does it hurt, what is it").startswith("... It is said to hurt.")


def test_a_long_snippet_is_cut_between_words():
    shown = snippet("word " * 200, "word")
    assert len(shown) <= SNIPPET + 4 and shown.endswith("word ...")


def test_what_was_found_is_shown_with_names_ids_and_scores():
    out = io.StringIO()
    found = [
        Hit(1, "d1", "d1", 0.71, "A [title]", ("... ", "The sentence that fits best.", " And what comes after it.")),
        Hit(2, "d2", "d2", 0.6, "", ("", "Short.", "")),
    ]
    show(found, Console(file=out, highlight=False, width=40))
    assert out.getvalue().splitlines() == [
        "1. A [title]  d1  0.710",
        "   ... The sentence that fits best. And",
        "   what comes after it.",
        "2. d2  0.600",
        "   Short.",
    ]
