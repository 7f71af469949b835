"""Search results for people: the snippet shows the part of a passage that answers."""

from __future__ import annotations

from retrieval_distill.reporting.text import SNIPPET, snippet

TEXT = "Reads a file into memory. Splits a path into root and extension. Ends here."


def test_the_snippet_begins_where_the_words_are():
    assert snippet(TEXT, "root and extension") == "... Splits a path into root and extension. Ends here."
    assert snippet(TEXT, "file") == TEXT
    assert snippet(TEXT, "nothing shared") == TEXT
    assert snippet("", "file") == ""


def test_a_long_snippet_is_cut_between_words():
    shown = snippet("word " * 200, "word")
    assert len(shown) <= SNIPPET + 4 and shown.endswith("word ...")
