"""Numbers and words for people."""

from __future__ import annotations

import pytest

from retrieval_distill.formatting import counted, plural


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ((1, "dev query"), "1 dev query"),
        ((0, "dev query"), "0 dev queries"),
        ((1234, "query"), "1,234 queries"),
        ((1, "row", "are"), "1 row is"),
        ((2, "row", "are"), "2 rows are"),
        ((1, "query", "have"), "1 query has"),
        ((1, "judgement", "name"), "1 judgement names"),
        ((3, "judgement", "name"), "3 judgements name"),
    ],
)
def test_a_count_agrees_with_its_noun_and_verb(told, shown):
    assert counted(*told) == shown


def test_plurals():
    nouns = ("way", "query", "search", "loss", "index", "relevant document")
    assert [plural(noun) for noun in nouns] == [
        "ways",
        "queries",
        "searches",
        "losses",
        "indexes",
        "relevant documents",
    ]
