"""Token ids equal the tokenizer's, batches lose no row and keep to their budget."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.data.tokens import Tokens, pad, token_batches, tokenize

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


def test_the_tokenizers_own_settings_stay(tokenizers_by_kind):
    tokenizer = tokenizers_by_kind["bert"]
    before = tokenizer(TEXTS, padding=True, truncation=True, max_length=20)["input_ids"]
    tokenize(tokenizer, TEXTS, 5)
    assert tokenizer(TEXTS, padding=True, truncation=True, max_length=20)["input_ids"] == before


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 500))
def test_batches(lengths, budget):
    lengths = np.array(lengths, np.int64)
    batches = token_batches(lengths, budget)
    assert sorted(np.concatenate(batches).tolist() if batches else []) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget
    longest = [lengths[batch].max() for batch in batches]
    assert longest == sorted(longest, reverse=True)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7), min_size=1, max_size=8))
def test_padding_round_trip(rows):
    tokens = Tokens.from_rows(rows)
    features = pad([tokens[i] for i in range(len(tokens))], pad_id=0)
    for row, ids, mask in zip(rows, features["input_ids"], features["attention_mask"], strict=True):
        assert ids[mask.bool()].tolist() == row
        assert ids[~mask.bool()].eq(0).all()
