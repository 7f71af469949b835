"""Scores equal the library's raw logits; assembled pairs equal the tokenizer's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder

from retrieval_distill.errors import UserError
from retrieval_distill.teacher import cross_encoder, pairs

KINDS = ["bert", "distilbert", "roberta"]
QUERIES = ["path", "sort the list by count and mean", "graph " * 50, "module"]
DOCUMENTS = ["file root", "tree edge node " * 20, "thread " * 25, "", "lock queue stack"]
ALL = np.ones(len(QUERIES) * len(DOCUMENTS), bool)
ROWS = np.array([(q, d) for q in range(len(QUERIES)) for d in range(len(DOCUMENTS))])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_library(cross_encoders, kind):
    teacher = cross_encoder.load(cross_encoders[kind], max_length=40, dtype="float32")
    scores = np.full(len(ROWS), np.nan, np.float32)
    for rows, values in teacher.score(QUERIES, DOCUMENTS, ROWS, ALL):
        scores[rows] = values
    peer = CrossEncoder(
        cross_encoders[kind],
        max_length=40,
        activation_fn=torch.nn.Identity(),
        device="cpu",
        model_kwargs={"dtype": torch.float32},
    )
    expected = peer.predict([(QUERIES[q], DOCUMENTS[d]) for q, d in ROWS])
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert expected.std() > 1e-3  # the comparison could have failed


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(query=st.integers(0, 60), document=st.integers(0, 60), max_length=st.integers(8, 60))
def test_pairs_equal_the_tokenizer(tokenizers_by_kind, kind, query, document, max_length):
    tokenizer = tokenizers_by_kind[kind]
    layout = pairs.template(tokenizer)
    assert layout is not None
    assert pairs.agrees(
        layout,
        tokenizer,
        ["path sort " * (query // 2) + "graph" * (query % 2)],
        ["heap tree " * (document // 2)],
        max_length,
    )


def test_a_tokenizer_that_does_not_agree_is_noticed(tokenizers_by_kind):
    layout = pairs.template(tokenizers_by_kind["bert"])
    assert not pairs.agrees(layout, tokenizers_by_kind["roberta"], ["path"], ["file"], 20)


def test_the_library_path_gives_the_same_scores(cross_encoders, monkeypatch):
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32")
    fast = dict(
        pair
        for rows, values in teacher.score(QUERIES, DOCUMENTS, ROWS, ALL)
        for pair in zip(rows.tolist(), values, strict=True)
    )
    monkeypatch.setattr(pairs, "template", lambda tokenizer: None)
    slow = dict(
        pair
        for rows, values in teacher.score(QUERIES, DOCUMENTS, ROWS, ALL)
        for pair in zip(rows.tolist(), values, strict=True)
    )
    assert fast.keys() == slow.keys()
    np.testing.assert_allclose([fast[i] for i in sorted(fast)], [slow[i] for i in sorted(slow)], atol=1e-5)


def test_fingerprint_covers_what_changes_scores(cross_encoders):
    marks = {
        cross_encoder.load(cross_encoders[kind], max_length=length, dtype=dtype).fingerprint
        for kind, length, dtype in [
            ("bert", 40, "float32"),
            ("bert", 48, "float32"),
            ("bert", 40, "bfloat16"),
            ("roberta", 40, "float32"),
        ]
    }
    assert len(marks) == 4


def test_two_labels_are_refused(tokenizers_by_kind, tmp_path):
    from transformers import AutoModelForSequenceClassification

    from tests.conftest import tiny_config

    tokenizer = tokenizers_by_kind["bert"]
    AutoModelForSequenceClassification.from_config(tiny_config("bert", tokenizer, num_labels=2)).save_pretrained(
        tmp_path
    )
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="2 labels"):
        cross_encoder.load(str(tmp_path))


def test_what_is_wanted_does_not_change_a_score(cross_encoders, monkeypatch):
    monkeypatch.setitem(cross_encoder.TOKENS_PER_BATCH, "cpu", 90)
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="bfloat16")
    batches = list(teacher.score(QUERIES, DOCUMENTS, ROWS, ALL))
    assert len(batches) > 4
    left = ALL.copy()
    left[np.concatenate([rows for rows, _ in batches[:2]])] = False  # as after a kill
    again = list(teacher.score(QUERIES, DOCUMENTS, ROWS, left))
    assert len(again) == len(batches) - 2
    for (rows, scores), (rows_again, scores_again) in zip(batches[2:], again, strict=True):
        np.testing.assert_array_equal(rows, rows_again)
        np.testing.assert_array_equal(scores, scores_again)
