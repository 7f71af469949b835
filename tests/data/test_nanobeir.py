"""NanoBEIR's layout, from a folder that has it; nothing is downloaded."""

from __future__ import annotations

import json

import pytest

from retrieval_distill.data import dataset_loader, nanobeir
from retrieval_distill.errors import UserError

ROWS = {
    "corpus": [{"_id": "d1", "text": "one"}, {"_id": "d2", "text": "two"}, {"_id": "d3", "text": " "}],
    "queries": [{"_id": "q1", "text": "first"}, {"_id": "q2", "text": "second"}],
    "qrels": [
        {"query-id": "q1", "corpus-id": "d1"},
        {"query-id": "q1", "corpus-id": "d3"},
        {"query-id": "q2", "corpus-id": "d2"},
    ],
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder as the hub has it: three subsets with a split per collection."""
    folder = tmp_path_factory.mktemp("NanoBEIR-xx")
    lines = ["---", "configs:"]
    for part, rows in ROWS.items():
        (folder / part).mkdir()
        lines += [f"- config_name: {part}", "  data_files:"]
        for split in ("NanoSciFact", "NanoNQ"):
            (folder / part / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            lines += [f"  - split: {split}", f"    path: {part}/{split}.jsonl"]
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


def test_a_collection_is_a_dataset(repository, tmp_path):
    for name in ("SciFact", "nanoscifact", "NanoSciFact"):
        dataset = nanobeir.load(name, repository, tmp_path)
        assert dataset.name == "nano-scifact"
    assert {id_: dataset.documents[id_] for id_ in dataset.documents} == {"d1": "one", "d2": "two"}
    assert dataset.queries["q2"] == "second"
    assert dataset.qrels("test") == {"q1": {"d1": 1}, "q2": {"d2": 1}}  # the empty d3 and its judgement are gone


def test_by_its_name_on_the_command_line(repository, tmp_path):
    assert dataset_loader.load(f"nanobeir:nq@{repository}", tmp_path).name == "nano-nq"


def test_unknown_collections_and_repositories(repository, tmp_path):
    with pytest.raises(UserError, match="has no 'scifac'; did you mean 'scifact'"):
        nanobeir.load("scifac", repository, tmp_path)
    with pytest.raises(UserError, match="could not be read"):
        nanobeir.load("scifact", str(tmp_path / "nowhere"), tmp_path)
