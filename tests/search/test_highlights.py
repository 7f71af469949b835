"""Which words of a snippet are marked."""

from __future__ import annotations

import pytest

from retrieval_distill.search.hits import highlights


@pytest.mark.parametrize(
    ("query", "marked"),
    [
        ("split a path into root and extension", ["Split", "path"]),
        ("PATH", ["path"]),
        ("what is it", ["it"]),  # a query of common words alone
        ("extension", []),
    ],
)
def test_the_words_of_the_query_that_say_something(query, marked):
    shown = "Split it: a path and a name, not a pathname."
    assert [shown[start:end] for start, end in highlights(shown, query)] == marked
