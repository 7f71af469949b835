"""The embedded corpus: what it holds, and that its splits do not leak and do not move."""

from __future__ import annotations

import pytest

from retrieval_distill.data import python_docs


@pytest.fixture(scope="module")
def built():
    return python_docs.build()


def test_size_and_splits(built):
    assert 8_000 < len(built.documents) < 14_000
    assert set(built.qrels) == {"train", "dev", "test"}
    assert len(built.qrels["test"]) > 400 and len(built.qrels["dev"]) > 200


def test_a_passage_lacks_the_summary_that_asks_for_it(built):
    title, text = built.documents.record("os.path.splitext")
    assert title == ""
    assert "leading dots" in text
    assert "extension from a pathname" in built.queries["query:os.path.splitext"]
    assert "extension from a pathname" not in text


def test_no_query_straddles_splits(built):
    texts = {split: {python_docs._normal(built.queries[q]) for q in judged} for split, judged in built.qrels.items()}
    for split, other in (("train", "test"), ("train", "dev"), ("dev", "test")):
        held = "\n".join(texts[other])
        assert not [text for text in texts[split] if text in held]
        assert not [text for text in texts[split] if any(inside in text for inside in texts[other])]


def test_no_passage_stands_twice(built):
    bodies = [python_docs._normal(built.documents.record(id_)[1]) for id_ in built.documents]
    assert len(bodies) == len(set(bodies))


def test_a_querys_split_does_not_depend_on_the_others():
    queries = {
        f"package.function_{i}": (f"unique summary number {i} here", [f"package.function_{i}"]) for i in range(3000)
    }
    whole = python_docs._splits(queries)
    part = python_docs._splits({name: queries[name] for name in list(queries)[::3]})
    for split, names in part.items():
        assert set(names) <= set(whole[split])
    assert 0.04 < len(whole["test"]) / 3000 < 0.10


def test_building_again_gives_the_same(built):
    again = python_docs.build()
    assert again.documents.fingerprint == built.documents.fingerprint
    assert again.queries.fingerprint == built.queries.fingerprint
    assert again.qrels == built.qrels
