"""Scores equal the library's raw logits; assembled pairs equal the tokenizer's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder
from transformers import AutoTokenizer

from retrieval_distill.errors import UserError
from retrieval_distill.hardware import eight_bits
from retrieval_distill.scores.teacher_contract import Pairs
from retrieval_distill.teacher import cross_encoder, pairs
from tests.teacher.decoders import classifying_decoder, yes_or_no_decoder

KINDS = ["bert", "distilbert", "roberta", "modernbert"]
QUERIES = ["path", "sort the list by count and mean", "graph " * 50, "module"]
DOCUMENTS = ["file root", "tree edge node " * 20, "thread " * 25, "", "lock queue stack"]
ROWS = np.array([(q, d) for q in range(len(QUERIES)) for d in range(len(DOCUMENTS))])
PAIRS = Pairs(
    [f"q{i}" for i in range(len(QUERIES))], QUERIES, [f"d{i}" for i in range(len(DOCUMENTS))], DOCUMENTS, ROWS,
    np.ones(len(ROWS), bool),
)  # fmt: skip


def scores_of(teacher, pairs=PAIRS):
    scores = np.full(len(pairs), np.nan, np.float32)
    for positions, values in teacher.score(pairs):
        assert np.isnan(scores[positions]).all()
        scores[positions] = values
    return scores


@pytest.mark.parametrize("kind", KINDS)
def test_scores_equal_the_library(cross_encoders, kind):
    teacher = cross_encoder.load(cross_encoders[kind], max_length=40, dtype="float32")
    scores = scores_of(teacher)
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
@settings(max_examples=60)
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


@pytest.mark.parametrize("kind", KINDS)
def test_all_ways_give_the_same_scores(cross_encoders, kind, monkeypatch):
    """Pairs assembled from cached tokens; pairs that the library makes; pairs that it makes and scores."""
    teacher = cross_encoder.load(cross_encoders[kind], max_length=40, dtype="float32")
    fast = scores_of(teacher)
    monkeypatch.setattr(pairs, "template", lambda tokenizer: None)
    np.testing.assert_allclose(fast, scores_of(teacher), atol=1e-5)
    teacher.plain = False
    np.testing.assert_allclose(fast, scores_of(teacher), atol=1e-5)


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


@pytest.fixture
def three_labels(tokenizers_by_kind, tmp_path):
    from transformers import AutoModelForSequenceClassification

    from tests.conftest import tiny_config

    tokenizer = tokenizers_by_kind["bert"]
    torch.manual_seed(4)
    config = tiny_config("bert", tokenizer, num_labels=3)
    config.id2label = {0: "contradiction", 1: "entailment", 2: "neutral"}
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return str(tmp_path)


def test_several_labels_need_a_choice(three_labels):
    message = r"3 labels: 0 \(contradiction\), 1 \(entailment\), 2 \(neutral\); .*teacher\.label="
    with pytest.raises(UserError, match=message):
        cross_encoder.load(three_labels)
    with pytest.raises(UserError, match=r"teacher\.label=3 does not exist.*labels 0 to 2"):
        cross_encoder.load(three_labels, label=3)


def test_a_chosen_label_gives_its_log_odds(three_labels, monkeypatch):
    teacher = cross_encoder.load(three_labels, 40, "float32", label=1)
    peer = CrossEncoder(three_labels, max_length=40, activation_fn=torch.nn.Softmax(dim=1), device="cpu")
    probability = peer.predict([PAIRS.texts(i) for i in range(len(PAIRS))])[:, 1]
    expected = np.log(probability / (1 - probability))
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-4)
    monkeypatch.setattr(pairs, "template", lambda tokenizer: None)
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-4)
    assert teacher.fingerprint != cross_encoder.load(three_labels, 40, "float32", label=0).fingerprint


def test_a_label_of_a_single_score_is_refused(cross_encoders):
    with pytest.raises(UserError, match="single score"):
        cross_encoder.load(cross_encoders["bert"], label=1)


def test_out_of_memory_halves_the_batches(cross_encoders, monkeypatch, caplog):
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32")
    expected = scores_of(teacher)
    forward, sizes, failed = cross_encoder.CrossEncoderTeacher._forward, [], []

    def small_device(self, model, features):
        tried = features["input_ids"].size
        (failed if tried > 100 else sizes).append(tried)
        if tried > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, model, features)

    monkeypatch.setattr(cross_encoder.CrossEncoderTeacher, "_forward", small_device)
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-5)
    assert failed and max(sizes) > 40  # not one pair at a time
    assert "out of memory: scoring goes on with" in caplog.text
    failed.clear()
    scores_of(teacher)
    assert not failed  # what was learnt is kept


def test_a_pair_that_fits_nowhere_is_said_plainly(cross_encoders, monkeypatch):
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32")

    def no_device(self, model, features):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(cross_encoder.CrossEncoderTeacher, "_forward", no_device)
    with pytest.raises(UserError, match=r"no memory for 40 tokens at once; .*teacher\.max_length"):
        scores_of(teacher)


def test_other_errors_are_not_taken_for_memory(cross_encoders, monkeypatch):
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32")

    def broken(self, model, features):
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(cross_encoder.CrossEncoderTeacher, "_forward", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        scores_of(teacher)


def test_several_devices_share_the_batches(cross_encoders, monkeypatch):
    monkeypatch.setitem(cross_encoder.TOKENS_PER_BATCH, "cpu", 90)
    alone = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32")
    shared = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32", devices=["cpu", "cpu", "cpu"])
    used = set()
    forward = cross_encoder.CrossEncoderTeacher._forward

    def watched(self, model, features):
        used.add(id(model))
        return forward(self, model, features)

    monkeypatch.setattr(cross_encoder.CrossEncoderTeacher, "_forward", watched)
    np.testing.assert_allclose(scores_of(shared), scores_of(alone), atol=1e-6)
    assert len(used) > 1


@pytest.fixture(scope="session")
def decoder(tmp_path_factory):
    return yes_or_no_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.mark.parametrize("made", [yes_or_no_decoder, classifying_decoder])
def test_a_decoder_without_padding_scores_again_and_again(made, tmp_path):
    teacher = cross_encoder.load(made(tmp_path), max_length=64, dtype="float32")
    expected = scores_of(teacher)
    assert expected.std() > 1e-3
    for _ in range(2):
        np.testing.assert_array_equal(scores_of(teacher), expected)
    alone = [scores_of(teacher, PAIRS.only(np.array([position])))[position] for position in range(len(PAIRS))]
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_a_classifying_decoder_that_cannot_pad_is_scored_pair_by_pair(tmp_path, monkeypatch, caplog):
    with caplog.at_level("INFO", "retrieval_distill"):
        teacher = cross_encoder.load(classifying_decoder(tmp_path), max_length=64, dtype="float32")
    assert "no padding token, so that sentence-transformers scores its pairs, one at a time" in caplog.text
    predict, sizes = teacher.model.predict, []
    monkeypatch.setattr(
        teacher.model, "predict", lambda texts, **how: sizes.append(len(texts)) or predict(texts, **how)
    )
    for _ in range(2):
        scores_of(teacher)
    assert sizes == [1] * 2 * len(PAIRS)


def test_a_classifying_decoder_that_can_pad_is_told_by_what(tmp_path):
    """A tokenizer with a padding token and settings without one: the library would refuse batches."""
    folder = classifying_decoder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = "<unk>"
    tokenizer.save_pretrained(folder)
    teacher = cross_encoder.load(folder, max_length=64, dtype="float32")
    peer = CrossEncoder(folder, max_length=64, activation_fn=torch.nn.Identity(), device="cpu")
    expected = peer.predict([PAIRS.texts(i) for i in range(len(PAIRS))], batch_size=1)
    np.testing.assert_allclose(scores_of(teacher), expected, atol=1e-5)


def test_a_decoder_gives_the_log_odds_of_yes(decoder):
    from transformers import AutoModelForCausalLM

    teacher = cross_encoder.load(decoder, max_length=64, dtype="float32")
    scores = scores_of(teacher)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(decoder), AutoTokenizer.from_pretrained(decoder)
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    for i in (0, 4, 7):
        ids = tokenizer(*PAIRS.texts(i), return_tensors="pt", truncation=True, max_length=64)["input_ids"]
        with torch.no_grad():
            logits = model(ids).logits[0, -1]
        assert scores[i] == pytest.approx(float(logits[yes] - logits[no]), abs=1e-4)
    assert scores.std() > 1e-3


def test_int8_is_a_teacher_of_its_own():
    texts = ["split a path into root and extension", "sort the rows of a table", "read bytes from a socket"]
    documents = ["Split the pathname into a pair (root, ext).", "Sort the values along an axis.", "Receive data."]
    rows = np.array([(q, d) for q in range(3) for d in range(3)])
    asked = Pairs(["a", "b", "c"], texts, ["x", "y", "z"], documents, rows, np.ones(9, bool))
    exact, small = (cross_encoder.load("starter", 64, dtype) for dtype in ("float32", "int8"))
    a, b = scores_of(exact, asked), scores_of(small, asked)
    assert np.abs(a - b).max() > 1e-4
    assert np.corrcoef(a, b)[0, 1] > 0.999  # of the same teacher, not the same to the digit
    assert exact.fingerprint != small.fingerprint and small.description["dtype"] == "int8"
    with pytest.raises(UserError, match="int8 works only on a CPU"):
        eight_bits.quantize(exact.model, "cuda:0")


def test_cut_pairs_are_counted(cross_encoders, caplog):
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="float32")
    tokenizer = teacher.model.tokenizer
    longer = sum(len(tokenizer(*PAIRS.texts(i))["input_ids"]) > 40 for i in range(len(PAIRS)))
    with caplog.at_level("INFO"):
        scores_of(teacher)
    assert 0 < longer < len(PAIRS)
    assert f"{longer} of {len(PAIRS)} pairs are longer than 40 tokens and are cut" in caplog.text


def test_what_is_wanted_does_not_change_a_score(cross_encoders, monkeypatch):
    monkeypatch.setitem(cross_encoder.TOKENS_PER_BATCH, "cpu", 90)
    teacher = cross_encoder.load(cross_encoders["bert"], max_length=40, dtype="bfloat16")
    batches = list(teacher.score(PAIRS))
    assert len(batches) > 4
    done = np.concatenate([positions for positions, _ in batches[:2]])
    again = list(teacher.score(PAIRS.only(np.setdiff1d(PAIRS.positions, done))))  # as after a kill
    assert len(again) == len(batches) - 2
    for (positions, scores), (positions_again, scores_again) in zip(batches[2:], again, strict=True):
        np.testing.assert_array_equal(positions, positions_again)
        np.testing.assert_array_equal(scores, scores_again)
