"""Passages keep to the limit, lose no word, overlap as asked, and carry titles; sentences join up to their text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data.prepare.segment import Segmenter
from retrieval_distill.data.prepare.sentences import sentences
from retrieval_distill.data.tokens import tokenize
from tests.conftest import WORDS


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three?", ["One. ", "Two! ", "Three?"]),
        ('He said "no." Then left.', ['He said "no." ', "Then left."]),
        ("e.g. this is 3.5 long", ["e.g. this is 3.5 long"]),
        ("one . two ? three", ["one . ", "two ? ", "three"]),
        ("a line\nanother", ["a line\n", "another"]),
        ("你好。再见。", ["你好。", "再见。"]),
        ("", []),
    ],
)
def test_sentences(text, found):
    assert sentences(text) == found


@given(st.text(st.sampled_from("ab A.!?\n\"') 。\u0964…")))
def test_sentences_join_up(text):
    assert "".join(sentences(text)) == text


word = st.sampled_from([*WORDS, "path.", "file!", "root?", "Split", "Join", "x" * 150])
document = st.lists(word, min_size=1, max_size=150).map(" ".join)
title = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@settings(max_examples=40)
@given(text=document, title=title, limit=st.integers(12, 40), overlap=st.integers(0, 3))
def test_promises(tokenizers_by_kind, kind, text, title, limit, overlap):
    tokenizer = tokenizers_by_kind[kind]
    found = list(Segmenter(tokenizer, limit, overlap).passages([("d", title, text)]))
    assert {parent for parent, _ in found} == {"d"}
    joined = [f"{title} {text}".strip() for _, (_, title, text) in found]
    assert tokenize(tokenizer, joined, None).lengths.max() <= limit
    if tokenize(tokenizer, [f"{title} {text}".strip()], None).lengths[0] <= limit:
        assert [record for _, record in found] == [("d", title, text)]
        return
    assert [id_ for _, (id_, _, _) in found] == [f"d#{number}" for number in range(1, len(found) + 1)]
    assert all(title.startswith(own) for _, (_, own, _) in found)
    whole, ends = text.replace(" ", ""), {0}
    for _, (_, _, passage) in found:  # every passage starts within or right after the one before, and goes further
        own = passage.replace(" ", "")
        starts = {start for end in ends for start in range(max(0, end - len(own) + 1), end + 1)}
        ends = {start + len(own) for start in starts if whole.startswith(own, start)}
    assert len(whole) in ends


def test_by_hand(tokenizers_by_kind):
    tokenizer = tokenizers_by_kind["bert"]
    parts = [f"{number} path file root." for number in range(1, 5)]
    (length,) = set(tokenize(tokenizer, parts, None, special_tokens=False).lengths)
    name = tokenize(tokenizer, ["graph node"], None, special_tokens=False).lengths[0]
    cut = Segmenter(tokenizer, 2 + name + 2 * length, overlap=1)
    assert [record for _, record in cut.passages([("d", "graph node", " ".join(parts)), ("e", "", "tree")])] == [
        ("d#1", "graph node", f"{parts[0]} {parts[1]}"),
        ("d#2", "graph node", f"{parts[1]} {parts[2]}"),
        ("d#3", "graph node", f"{parts[2]} {parts[3]}"),
        ("e", "", "tree"),
    ]
    without = Segmenter(tokenizer, 2 + name + 2 * length, overlap=0)
    assert [text for _, (_, _, text) in without.passages([("d", "graph node", " ".join(parts))])] == [
        f"{parts[0]} {parts[1]}",
        f"{parts[2]} {parts[3]}",
    ]
