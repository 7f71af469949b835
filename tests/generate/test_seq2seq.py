"""A sequence-to-sequence model: our batches against the library's, our dice against its distribution."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import scipy.stats
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.generation import TopKLogitsWarper, TopPLogitsWarper

from retrieval_distill.config.generate import Seq2SeqConfig
from retrieval_distill.errors import UserError
from retrieval_distill.generate import seq2seq
from retrieval_distill.generate.query_generator import seeded_rng
from retrieval_distill.generate.sampling import FixedNoiseSampler, gumbel_noise
from retrieval_distill.generate.seq2seq import Seq2Seq


@pytest.fixture(autouse=True)
def many_batches(monkeypatch):
    monkeypatch.setitem(seq2seq.TOKENS_PER_BATCH, "cpu", 400)


def made_of(way, records, counts=None, done=None):
    counts = [3] * len(records) if counts is None else counts
    found = {}
    for part in way.make(records, counts, [False] * len(records) if done is None else done):
        assert not found.keys() & part.keys()
        found |= part
    return {row: [query.text for query in queries] for row, queries in found.items()}


def config(t5, **options):
    return Seq2SeqConfig(model=t5, max_length=32, query_length=8, dtype="float32", **options)


def test_beams_are_the_librarys_document_by_document(t5, corpus):
    records = list(corpus.documents.records())[:12]
    found = made_of(Seq2Seq(config(t5, decoding="beam"), 7), records)
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(t5), AutoTokenizer.from_pretrained(t5)
    for row, (_, title, text) in enumerate(records):
        tokens = tokenizer(f"{title} {text}", truncation=True, max_length=32, return_tensors="pt")
        written = model.generate(
            tokens["input_ids"], attention_mask=tokens["attention_mask"], num_beams=4, num_return_sequences=3,
            max_new_tokens=8, do_sample=False,
        )  # fmt: skip
        texts = tokenizer.batch_decode(written, skip_special_tokens=True)
        assert found[row] == [" ".join(text.split()) for text in texts]


def test_a_documents_queries_are_its_own_whatever_the_company(t5, corpus):
    records = list(corpus.documents.records())[:12]
    way = Seq2Seq(config(t5), 7)
    together = made_of(way, records)
    assert all(len(set(queries)) > 1 for queries in together.values())  # three draws, not one three times
    assert len({tuple(queries) for queries in together.values()}) == 12
    backwards = made_of(way, records[::-1])
    assert {11 - row: queries for row, queries in backwards.items()} == together
    for row in (0, 5, 11):
        assert made_of(way, [records[row]]) == {0: together[row]}
    assert made_of(Seq2Seq(config(t5), 8), records) != together


def test_each_gets_as_many_as_it_is_asked_for(t5, corpus):
    records = list(corpus.documents.records())[:6]
    way = Seq2Seq(config(t5), 7)
    whole, some = made_of(way, records), made_of(way, records, [0, 1, 2, 3, 0, 2])
    assert some == {row: whole[row][:count] for row, count in enumerate([0, 1, 2, 3, 0, 2])}


def test_what_is_done_is_not_written_again(t5, corpus, monkeypatch):
    records = list(corpus.documents.records())[:12]
    way = Seq2Seq(config(t5), 7)
    batches = [part for part in way.make(records, [3] * 12, [False] * 12) if part]
    assert len(batches) > 2
    done = [row in batches[0] or row in batches[2] for row in range(12)]
    model, asked = way._model, []
    real = model.generate
    monkeypatch.setattr(model, "generate", lambda **given: asked.append(len(given["input_ids"])) or real(**given))
    left = [part for part in way.make(records, [3] * 12, done) if part]
    assert left == [part for number, part in enumerate(batches) if number not in (0, 2)]
    assert sum(asked) == 12 - sum(done)


def test_weights_of_an_older_repository(t5, corpus, tmp_path):
    shutil.copytree(t5, folder := tmp_path / "old")
    (folder / "model.safetensors").unlink()
    torch.save(AutoModelForSeq2SeqLM.from_pretrained(t5).state_dict(), folder / "pytorch_model.bin")
    records = list(corpus.documents.records())[:2]
    assert made_of(Seq2Seq(config(str(folder)), 7), records) == made_of(Seq2Seq(config(t5), 7), records)


def test_a_model_of_another_kind_is_refused(encoders, corpus):
    with pytest.raises(UserError, match="cannot be read as a sequence-to-sequence model"):
        made_of(Seq2Seq(config(encoders["bert"]), 7), list(corpus.documents.records())[:1])


@pytest.mark.parametrize(("top_k", "top_p", "temperature"), [(4, 1.0, 1.0), (25, 0.9, 1.0), (6, 0.8, 2.0)])
def test_thrown_dice_draw_from_the_librarys_distribution(top_k, top_p, temperature):
    torch.manual_seed(0)
    logits = torch.randn(1, 12) * 2
    warped = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(min(top_k, 12))(None, logits / temperature))
    expected = warped.double().softmax(-1)[0].numpy()
    draws = 20_000
    noise = gumbel_noise([seeded_rng(7, "test")], draws, 1, top_k)
    drawn = FixedNoiseSampler(noise, top_p, temperature)(torch.zeros(draws, 1), logits.expand(draws, -1))
    counts = np.bincount(drawn.argmax(-1).numpy(), minlength=12)
    possible = expected > 0
    assert 1 < possible.sum() <= top_k and not counts[~possible].any()
    assert scipy.stats.chisquare(counts[possible], expected[possible] * draws).pvalue > 1e-3


def test_each_step_takes_its_own_noise():
    noise = torch.zeros(1, 2, 3)
    noise[0, 0, 2] = noise[0, 1, 1] = 100.0
    sampler, logits = FixedNoiseSampler(noise, 1.0, 1.0), torch.tensor([[0.0, 3.0, 2.0, 1.0]])
    assert [int(sampler(None, logits).argmax()) for _ in range(2)] == [3, 2]  # third likeliest, then second
