"""A smaller corpus for a trial run."""

from __future__ import annotations

import pyarrow as pa
import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.sample import sample_documents
from retrieval_distill.errors import UserError
from retrieval_distill.reporting.run_folder import RunFolder


@pytest.fixture
def corpus() -> Dataset:
    """Twenty documents; two training queries, one test query, and a dev query whose answer nothing else needs."""
    return Dataset.from_records(
        "corpus",
        [(f"d{i}", "", f"text {i}") for i in range(20)],
        [(id_, id_) for id_ in ("train1", "train2", "test1", "dev1")],
        {
            "train": [("train1", "d3", 1), ("train1", "d4", 0), ("train2", "d5", 2)],
            "test": [("test1", "d17", 1), ("test1", "d2", 1)],
            "dev": [("dev1", "d9", 1)],
        },
    )


@pytest.mark.parametrize("seed", range(5))
def test_answers_stay_and_others_are_drawn(corpus, seed):
    found = sample_documents(corpus, 8, answered=("train", "test"), seed=seed)
    assert len(found.documents) == 8
    assert {"d3", "d5", "d17", "d2"} <= set(found.documents)
    assert list(found.documents) == [id_ for id_ in corpus.documents if id_ in found.documents]  # their order
    assert found.documents["d17"] == "text 17"
    again = sample_documents(corpus, 8, answered=("train", "test"), seed=seed)
    assert again.documents.fingerprint == found.documents.fingerprint


def test_every_seed_draws_others(corpus):
    drawn = {tuple(sample_documents(corpus, 8, answered=("train", "test"), seed=seed).documents) for seed in range(9)}
    assert len(drawn) > 5


def test_judgements_are_of_these_documents(corpus):
    found = sample_documents(corpus, 4, answered=("train", "test"), seed=1)
    assert found.qrels["train"] == {"train1": {"d3": 1}, "train2": {"d5": 2}}  # d4 is judged irrelevant, and gone
    assert found.qrels["test"] == corpus.qrels["test"]
    assert found.qrels["dev"] == {}  # its answer is gone


def test_passages_stay_with_their_document(corpus):
    passages = corpus.replace(parents=pa.chunked_array([[f"p{i // 4}" for i in range(20)]]))
    found = sample_documents(passages, 4, answered=("train", "test"), seed=1)
    assert found.size == 4 and len(found.documents) == 16
    assert found.parents_of(["d17", "d16"]) == ["p4", "p4"]


def test_all_of_a_small_corpus(corpus):
    assert sample_documents(corpus, 20, answered=("train", "test"), seed=1) is corpus


def test_fewer_documents_than_answers_are_refused(corpus):
    with pytest.raises(UserError, match=r"dataset.documents=3, but 4 documents are relevant .*dataset.train_queries"):
        sample_documents(corpus, 3, answered=("train", "test"), seed=1)


def test_a_run_searches_them_and_says_so(tiny_recipe, tmp_path):
    whole = {**tiny_recipe["dataset"], "train_queries": 6}
    recipe = parse_recipe({**tiny_recipe, "dataset": {**whole, "documents": 35}})
    report = pipeline.run(recipe, out=tmp_path / "run")
    assert report.details["dataset"]["docs"] == 35
    assert report.details["dataset"]["queries"]["train"] == 6
    assert "Searched are 35 documents drawn from the dataset's" in (tmp_path / "run" / "report.md").read_text()
    assert len(RunFolder.open(tmp_path / "run").dataset.documents) == 35  # as a search or a later report reads it
