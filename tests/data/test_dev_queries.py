"""Training queries that become the dev split of a dataset without one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from retrieval_distill.config import parse_recipe
from retrieval_distill.data import sources


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with 20 training queries, three test queries and no dev split."""
    folder = tmp_path / "data"
    (folder / "qrels").mkdir(parents=True)
    rows = [{"_id": f"d{i}", "title": "", "text": f"text {i}"} for i in range(25)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(23)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for split, of in (("train", range(20)), ("test", range(20, 23))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{i}\td{i}\t1" for i in of)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def splits(folder, tmp_path, **dataset):
    recipe = parse_recipe({"name": "a", "seed": 3, "dataset": {"source": str(folder), **dataset}})
    return sources.of_run(recipe, tmp_path / "cache").qrels


@pytest.mark.parametrize(("asked", "got"), [(3, 3), (4, 4), (200, 4)])
def test_they_are_taken_from_the_training_queries(folder, tmp_path, asked, got):
    found = splits(folder, tmp_path, dev_queries=asked)
    assert len(found["dev"]) == got and len(found["train"]) == 20 - got
    assert {**found["dev"], **found["train"]} == splits(folder, tmp_path)["train"]
    assert found["test"] == splits(folder, tmp_path)["test"]
    assert splits(folder, tmp_path, dev_queries=asked) == found


def test_a_dev_split_that_is_there_stays(folder, tmp_path):
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "dev.tsv")
    assert splits(folder, tmp_path, dev_queries=3) == splits(folder, tmp_path)


def test_without_a_dev_split_wanted_nothing_changes(folder, tmp_path):
    assert splits(folder, tmp_path, dev_queries=3, dev=None) == splits(folder, tmp_path, dev=None)


def test_the_other_training_queries_are_counted_afterwards(folder, tmp_path):
    found = splits(folder, tmp_path, dev_queries=4, train_queries=5, documents=20)
    assert (len(found["train"]), len(found["dev"])) == (5, 4)
