"""A bi-encoder as teacher gives the library's own similarities."""

from __future__ import annotations

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from retrieval_distill import api
from retrieval_distill.config import MemberConfig
from retrieval_distill.errors import UserError
from retrieval_distill.teacher import bi_encoder, dtype_agreement, scoring, teacher_loader


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_scores_are_the_models_similarity(encoders, dataset, tmp_path, kind):
    teacher = bi_encoder.load(encoders[kind], dtype="float32")
    run = api.retrieve(dataset.queries, dataset.documents, depth=5)
    scored = api.score(run, dataset, teacher=teacher, store=tmp_path)
    counts = scored.facts
    model = SentenceTransformer(encoders[kind])
    for query, document, score in scored.frame.sample(20, random_state=0).itertuples(index=False):
        vectors = model.encode_query([dataset.queries[query]]), model.encode_document([dataset.documents[document]])
        assert score == pytest.approx(float(model.similarity(*vectors)), abs=1e-4)
    assert counts["scored"] == len(run)


def test_stored_vectors_are_not_made_again(encoders, dataset, tmp_path, monkeypatch):
    model, run = encoders["bert"], api.retrieve(dataset.queries, dataset.documents, depth=5)
    documents = dataset.documents
    config = MemberConfig(model=f"bi-encoder:{model}", dtype="float32", max_length=48)
    made = api.embed(documents.at(np.arange(40)), model, out=tmp_path / "v", dtype="float32", max_length=48)
    others = [
        api.embed(documents, encoders["roberta"], out=tmp_path / "other", dtype="float32", max_length=48),
        api.embed(documents, model, out=tmp_path / "short", dtype="float32", max_length=16),
        api.embed(documents, model, out=tmp_path / "coarse", dtype="float32", max_length=48, storage="int8"),
    ]
    fresh = teacher_loader.load(config, teacher_loader.Corpus(vectors=others))
    teacher = teacher_loader.load(config, teacher_loader.Corpus(vectors=[*others, made]))
    assert teacher.fingerprint == fresh.fingerprint == teacher_loader.load(config).fingerprint
    embedded = []
    real = bi_encoder.encoder.encode_parts
    monkeypatch.setattr(bi_encoder.encoder, "encode_parts", lambda m, t, *k: embedded.extend(t) or real(m, t, *k))
    monkeypatch.setattr(bi_encoder, "VECTORS_PER_READ", 7)
    expected = api.score(run, dataset, teacher=fresh, store=tmp_path / "fresh")
    asked = set(run.frame["doc_id"])
    assert sum(text in set(documents.take()) for text in embedded) == len(asked)
    embedded.clear()
    found = api.score(run, dataset, teacher=teacher, store=tmp_path / "stored")
    assert set(embedded) & set(documents.take()) == set(documents.take(sorted(asked - set(documents.ids[:40]))))
    assert found.pairs == expected.pairs
    assert found.frame["score"].to_numpy() == pytest.approx(expected.frame["score"].to_numpy(), abs=1e-6)


def test_vectors_made_without_options_serve_a_teacher_without_options(encoders, dataset, tmp_path):
    made = api.embed(dataset.documents, encoders["bert"], out=tmp_path / "v")
    for given in (
        {"model": f"bi-encoder:{encoders['bert']}"},
        {"model": f"bi-encoder:{encoders['bert']}", "max_length": None},
    ):
        teacher = teacher_loader.load(MemberConfig(**given), teacher_loader.Corpus(vectors=[made]))
        assert teacher.document_vectors is not None
    assert MemberConfig(model="starter").tokens == 512


def test_only_wanted_texts_are_embedded(encoders, dataset, tmp_path, monkeypatch):
    teacher = teacher_loader.load(MemberConfig(model=f"bi-encoder:{encoders['bert']}", dtype="float32"))
    run = api.retrieve(dataset.queries, dataset.documents, depth=5)
    api.score(run.top(4), dataset, teacher=teacher, store=tmp_path)
    embedded = []
    real = bi_encoder.encoder.encode_parts
    monkeypatch.setattr(bi_encoder.encoder, "encode_parts", lambda m, t, *k: embedded.extend(t) or real(m, t, *k))
    api.score(run, dataset, teacher=teacher, store=tmp_path)
    fifth = run.frame[run.frame.groupby("query_id").cumcount() == 4]
    assert len(embedded) == fifth["query_id"].nunique() + fifth["doc_id"].nunique()


def test_what_was_scored_before_a_kill_changes_no_score(encoders, dataset, tmp_path, monkeypatch):
    monkeypatch.setitem(bi_encoder.encoder.TOKENS_AT_ONCE, "cpu", 100)
    teacher = bi_encoder.load(encoders["bert"], dtype="float32")
    pairs = scoring.pairs_of(
        api.retrieve(dataset.queries, dataset.documents, depth=5), dataset.queries, dataset.documents
    )
    whole = list(teacher.score(pairs))
    assert len(whole) > 3
    done = np.concatenate([rows for rows, _ in whole[:2]])
    left = list(teacher.score(pairs.only(np.setdiff1d(pairs.positions, done))))
    assert len(left) == len(whole) - 2
    for (rows, scores), (again, same) in zip(whole[2:], left, strict=True):
        assert np.array_equal(rows, again) and np.array_equal(scores, same)


def test_rank_agreement_with_float32(dataset, tmp_path):
    config = MemberConfig(model="starter", max_length=48, dtype="bfloat16")
    run = api.retrieve(dataset.queries, dataset.documents, depth=4)
    scored = api.score(run, dataset, teacher=teacher_loader.load(config), store=tmp_path)
    found = dtype_agreement.compare_with_float32(config, scored, dataset.queries, dataset.documents)
    assert found["queries"] == 40 and found["pairs"] == len(run)
    assert 0.8 < found["kendall_tau"] <= 1.0 and 0 < found["max_difference"] < 0.5
    turned = scored.with_scores(-scored.frame["score"])
    assert (
        dtype_agreement.compare_with_float32(config, turned, dataset.queries, dataset.documents)["kendall_tau"] < -0.8
    )
    exact = config.model_copy(update={"dtype": "float32"})
    assert dtype_agreement.compare_with_float32(exact, scored, dataset.queries, dataset.documents) is None


def test_kinds_by_name():
    assert teacher_loader.split("bi-encoder:packaged:all-MiniLM-L6-v2") == ("bi-encoder", "packaged:all-MiniLM-L6-v2")
    assert teacher_loader.split("llm:judge") == ("llm", "judge")
    assert teacher_loader.split("cross-encoder/ms-marco") == ("cross-encoder", "cross-encoder/ms-marco")
    with pytest.raises(UserError, match=r"teacher\.llm\.endpoint"):
        teacher_loader.load(MemberConfig(model="llm:judge"))
