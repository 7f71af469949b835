"""A collection with dozens of relevant documents per query: some are scored, the others stay known as relevant."""

from __future__ import annotations

from collections import Counter

import pytest

from retrieval_distill import api
from retrieval_distill.config import load_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.relevance import with_relevant
from retrieval_distill.data.run import Run
from retrieval_distill.mining.relevant import limit_relevant
from retrieval_distill.training.groups import build_groups
from tests.commands import command


@pytest.fixture(scope="module")
def medical() -> Dataset:
    """Every query has 20 relevant documents, five of them of a higher grade, and ten documents that are not."""
    topics = ("fever", "cough", "rash")
    documents = [(f"{topic}-{n}", "", f"{topic} study {n} of {n % 7} cases") for topic in topics for n in range(20)]
    documents += [(f"other-{n}", "", f"study {n} of fever cough rash prevention") for n in range(10)]
    documents += [
        (f"copy-{topic}-{n}", "", f"{topic} STUDY {n}, of {n % 7} cases") for topic in topics for n in range(20)
    ]
    judged = [(topic, f"{topic}-{n}", 2 if n % 4 == 0 else 1) for topic in topics for n in range(20)]
    return Dataset.from_records(
        "medical", documents, [(topic, f"{topic} study") for topic in topics], {"train": judged}
    )


def mined(dataset: Dataset, **options) -> tuple[Run, dict]:
    found = api.mine(dataset, depth=99, keep=60, retrievers=["bm25"], **options)
    return found, dict(found.report)


def test_no_more_than_so_many_are_scored_and_the_others_are_no_negatives(medical):
    found, counts = mined(medical, relevant=7)
    qrels = medical.qrels("train")
    for query, docs in found.as_dict().items():
        grades = Counter(qrels[query].get(doc, 0) for doc in docs)
        assert (grades[2], grades[1]) == (5, 2)  # the higher grade first
        assert not any(doc.startswith(f"copy-{query}") for doc in docs)  # nor are copies of those left out
    assert counts["relevant_left_out"] == 3 * (20 - 7)
    for group in build_groups(found, qrels):
        relevant = {doc for doc, grade in zip(group.doc_ids, group.grades, strict=True) if grade}
        assert relevant == set(group.doc_ids) & set(qrels[group.query_id]) and len(relevant) == 7


def test_the_draw_is_the_same_wherever_they_rank(medical):
    """So that a later round, or another seed, asks the teacher for no other pairs of relevant documents."""
    qrels = medical.qrels("train")
    first, other = (
        limit_relevant(
            with_relevant(Run.from_dict({query: dict.fromkeys(docs[:9], score) for query, docs in ids.items()}), qrels),
            qrels,
            7,
        )
        for score, ids in (
            (1.0, {query: list(docs) for query, docs in qrels.items()}),
            (5.0, {query: list(docs)[::-1] for query, docs in qrels.items()}),
        )
    )
    assert sorted(first.pairs) == sorted(other.pairs)
    numbers = {doc.partition("-")[2] for _, doc in first.pairs if qrels[doc.partition("-")[0]][doc] == 1}
    assert len(numbers) > 2  # each query draws its own


def test_few_are_left_as_they_are(medical, dataset):
    found, counts = mined(medical, relevant=None)
    assert counts["relevant_left_out"] == 0
    assert all(
        sum(doc in medical.qrels("train")[query] for doc in docs) == 20 for query, docs in found.as_dict().items()
    )
    one, other = (api.mine(dataset, vectors="unused", relevant=limit, retrievers=["bm25"]) for limit in (1, None))
    assert one.frame.equals(other.frame)


def test_what_it_costs_is_said(medical, tmp_path):
    from retrieval_distill.data.formats import beir

    beir.save(medical, tmp_path / "medical")
    said = command(
        "mine", "--dataset", tmp_path / "medical", "--keep", 4, "--relevant", 7, "--out", tmp_path / "m.parquet"
    )
    pairs = len(Run.load(tmp_path / "m.parquet"))
    assert f"{pairs} pairs of 3 queries to score; 39 more relevant documents are left out (--relevant)" in said
    assert load_recipe("own-corpus").retrieve.relevant == 8
    assert load_recipe("own-corpus", ["retrieve.relevant=null"]).retrieve.relevant is None
