"""Token ids on disk are the tokenizer's, cut once, and cut again when anything changes that they depend on."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from retrieval_distill.config import StudentConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.student import build, encoder
from retrieval_distill.training import token_store

ROWS = st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), max_size=4)


@given(st.lists(ROWS, max_size=4))
def test_parts_come_back_as_one(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("tokens")
    written = Tokens.write(folder, (Tokens.from_rows(rows) for rows in parts))
    opened = Tokens.open(folder)
    expected = [row for rows in parts for row in rows]
    for tokens in (written, opened):
        assert tokens.flat.dtype == np.int32
        assert [tokens[i].tolist() for i in range(len(tokens))] == expected
    assert np.load(folder / "flat.npy", allow_pickle=False).tolist() == [id_ for row in expected for id_ in row]


def test_opened_tokens_are_mapped_not_read(tmp_path):
    tokens = Tokens.write(tmp_path, [Tokens.from_rows([[1, 2], [3]])])
    owner = tokens.flat
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)


@pytest.fixture
def student(encoders) -> SentenceTransformer:
    return build.build(StudentConfig(model=encoders["bert"], max_length=40, query_prompt="find: "))


def cut(student, texts, folder, kind="query", max_length=8):
    return token_store.tokenize(student, texts.select(["b", "a", "c"]), kind, max_length, folder)


TEXTS = Texts.from_records([("a", "", "path file"), ("b", "title", "graph node " * 9), ("c", "", "x"), ("d", "", "y")])


@pytest.mark.parametrize("kind", ["query", "document"])
def test_cut_as_the_tokenizer_does(student, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(token_store, "CHUNK", 2)
    found = cut(student, TEXTS, tmp_path / "store", kind)
    prompt = "find: " if kind == "query" else ""
    for id_ in "abc":
        own = student.tokenizer(prompt + TEXTS[id_], truncation=True, max_length=8)["input_ids"]
        assert found[id_].tolist() == own
    assert student.max_seq_length == 40


def test_cut_once(student, tmp_path, monkeypatch):
    calls = []
    real = encoder.tokens_of
    monkeypatch.setattr(encoder, "tokens_of", lambda *args: calls.append(args) or real(*args))
    cut(student, TEXTS, tmp_path / "store")
    assert len(calls) == 1
    cut(student, TEXTS, tmp_path / "store")
    unread = Texts.from_records([*((id_, *TEXTS.record(id_)) for id_ in "abc"), ("d", "", "z")])
    cut(student, unread, tmp_path / "store")
    assert len(calls) == 1
    changed = Texts.from_records([*((id_, *TEXTS.record(id_)) for id_ in "ab"), ("c", "", "array")])
    cut(student, changed, tmp_path / "store")
    cut(student, changed, tmp_path / "store", max_length=9)
    student.prompts["query"] = ""
    cut(student, changed, tmp_path / "store", max_length=9)
    student.tokenizer.add_tokens(["array"])
    found = cut(student, changed, tmp_path / "store", max_length=9)
    assert len(calls) == 5
    assert found["c"].tolist() == student.tokenizer("array")["input_ids"]
