"""Token ids equal the tokenizer's, batches lose no row and keep to their budget."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data import word_ids
from retrieval_distill.data.tokens import Tokens, pad, same_length_batches, token_batches, tokenize

TEXTS = ["path file", "", "graph " * 60, "Hash, byte; buffer!", "naïve \n text"]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("max_length", [None, 12])
@pytest.mark.parametrize("special", [True, False])
def test_equal_to_the_tokenizer(tokenizers_by_kind, kind, max_length, special):
    tokenizer = tokenizers_by_kind[kind]
    tokens = tokenize(tokenizer, TEXTS, max_length, special)
    own = tokenizer(TEXTS, truncation=max_length is not None, max_length=max_length, add_special_tokens=special)[
        "input_ids"
    ]
    assert [tokens[i].tolist() for i in range(len(tokens))] == own
    assert tokens.lengths.tolist() == [len(row) for row in own]


@pytest.mark.parametrize("kind", ["bert", "roberta"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_cut_at_the_end_that_the_tokenizer_says(tokenizers_by_kind, kind, side):
    tokenizer = copy.deepcopy(tokenizers_by_kind[kind])
    tokenizer.truncation_side = side
    texts = ["path file root extension split join read write", *TEXTS]
    for length in (4, 7, 64):
        tokens = tokenize(tokenizer, texts, length)
        own = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        assert [tokens[i].tolist() for i in range(len(tokens))] == own


@pytest.fixture(scope="module")
def normalising(tokenizers_by_kind):
    """A tokenizer that normalises and splits as BERT's does, with words in several scripts and an added token."""
    from tokenizers import AddedToken, Tokenizer, normalizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(tokenizers_by_kind["bert"].backend_tokenizer.to_str())
    backend.normalizer = normalizers.BertNormalizer()
    backend.add_tokens([AddedToken("c++"), AddedToken("naïve", normalized=True, single_word=True)])
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    assert word_ids.is_supported(tokenizer.backend_tokenizer)
    return tokenizer


PIECES = st.sampled_from(
    ["path", "Files", "c++", "[SEP]", "[MASK]", "naïve", "e\u0301", "\u0301", "東京", "Σ", "x" * 120]
)
GAPS = st.sampled_from([" ", "  ", "\n", "\t", "\r\n", "\x1c", "\x00", "\u00a0", "\u2028", "\u200b", "-", "", "."])


@settings(max_examples=300)
@given(
    st.lists(st.one_of(PIECES, GAPS, st.text(max_size=4)), max_size=20).map("".join),
    st.none() | st.integers(3, 12),
    st.booleans(),
    st.sampled_from(["left", "right"]),
)
def test_words_cut_once_give_the_tokenizers_ids(normalising, text, max_length, special, side):
    normalising.truncation_side = side
    texts = [text, text + " path", "path\n" + text]
    tokens = tokenize(normalising, texts, max_length, special)
    limits = {"truncation": max_length is not None, "max_length": max_length, "add_special_tokens": special}
    assert [tokens[i].tolist() for i in range(3)] == normalising(texts, **limits)["input_ids"]


def test_only_tokenizers_that_stop_at_white_space_are_cut_by_words(tokenizers_by_kind, normalising):
    assert not word_ids.is_supported(tokenizers_by_kind["roberta"].backend_tokenizer)
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(normalising.backend_tokenizer.to_str())
    backend.add_tokens(["path file"])
    assert not word_ids.is_supported(backend)


def test_words_are_forgotten_before_they_fill_the_memory(tokenizers_by_kind, monkeypatch):
    monkeypatch.setattr(word_ids, "MOST_WORDS", 3)
    words = word_ids.WordIds(tokenizers_by_kind["bert"].backend_tokenizer)
    expected = words.cut(["path file hash byte"], None, True)
    assert len(words) == 4
    assert words.cut(["path"], None, True)[0][1:-1] == expected[0][1:2]
    assert list(words) == ["path"]


def test_the_tokenizers_own_settings_stay(tokenizers_by_kind):
    tokenizer = tokenizers_by_kind["bert"]
    before = tokenizer(TEXTS, padding=True, truncation=True, max_length=20)["input_ids"]
    tokenize(tokenizer, TEXTS, 5)
    assert tokenizer(TEXTS, padding=True, truncation=True, max_length=20)["input_ids"] == before


@pytest.mark.parametrize("batched", [token_batches, same_length_batches])
@given(st.lists(st.integers(0, 200) | st.integers(0, 5), max_size=60), st.integers(1, 500))
def test_batches(batched, lengths, budget):
    lengths = np.array(lengths, np.int64)
    batches = batched(lengths, budget)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
    longest = [lengths[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)
    assert batched is token_batches or all(len(set(lengths[batch])) == 1 for batch in batches)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=8))
def test_padding_round_trip(rows):
    tokens = Tokens.from_rows(rows)
    features = pad([tokens[i] for i in range(len(tokens))], pad_id=0)
    for row, ids, mask in zip(rows, features["input_ids"], features["attention_mask"], strict=True):
        assert ids[mask.bool()].tolist() == row
        assert ids[~mask.bool()].eq(0).all()
