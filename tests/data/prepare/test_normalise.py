"""Normalised texts: the standard's examples, and doing it twice changes nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.config import PrepareConfig
from retrieval_distill.data.prepare.normalise import normalise_text


@pytest.mark.parametrize(
    ("text", "nfc", "nfkc"),
    [
        ("e\u0301", "é", "é"),
        ("ﬁne \uff21", "ﬁne \uff21", "fine A"),
        ("x\u00b2", "x\u00b2", "x2"),
        ("a \t\u00a0 b", "a b", "a b"),
        (" a \r\n\r\n  b\x0bc\u2028d ", "a\nb\nc\nd", "a\nb\nc\nd"),
        ("\ufeffa\0b\u200bc", "abc", "abc"),
    ],
)
def test_by_hand(text, nfc, nfkc):
    assert normalise_text(text, PrepareConfig()) == nfc
    assert normalise_text(text, PrepareConfig(unicode="NFKC")) == nfkc
    assert normalise_text(text, PrepareConfig(unicode="keep", whitespace=False)) == text


@pytest.mark.parametrize("form", ["NFC", "NFKC", "keep"])
@given(st.text(st.one_of(st.sampled_from(" \t\n\r\u00a0\0\u0301e\u200b"), st.characters(exclude_categories=("Cs",)))))
def test_twice_is_once(form, text):
    config = PrepareConfig(unicode=form)
    once = normalise_text(text, config)
    assert normalise_text(once, config) == once
    assert once.strip() == once and "  " not in once and "\n\n" not in once
    if form != "keep":
        assert unicodedata.is_normalized(form, once)
