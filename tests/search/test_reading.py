"""``embed`` and ``search`` read a source as they are told to, and ask the columns that came along with a dataset."""

from __future__ import annotations

import csv
import json

import pytest

from tests.commands import command

READING = ("--columns", "id=Key,text=Body", "--delimiter", ";")


@pytest.fixture
def table(corpus, tmp_path):
    """The documents as a spreadsheet may have them."""
    path = tmp_path / "docs.csv"
    with path.open("w", newline="") as out:
        rows = csv.writer(out, delimiter=";")
        rows.writerow(["key", "BODY", "Year"])
        rows.writerows(
            (id_, text, 2000 + row % 10) for row, (id_, _, text) in enumerate(corpus.dataset.documents.records())
        )
    return path


def test_a_table_with_names_of_its_own(corpus, table, tmp_path):
    command(
        "embed",
        "--model",
        corpus.model,
        "--dataset",
        table,
        "--out",
        tmp_path / "vectors",
        "--cache",
        tmp_path / "c",
        *READING,
    )
    command("index", tmp_path / "vectors", "--out", tmp_path / "index")
    parts = ("--index", tmp_path / "index", "--model", corpus.model, "--dataset", table, "--cache", tmp_path / "c")
    found = json.loads(command("search", *parts, *READING, "path", "--json", "--depth", "3").splitlines()[-1])
    assert len(found["hits"]) == 3 and all(hit["id"] in corpus.dataset.documents for hit in found["hits"])
    assert "--delimiter ';'" in command("search", *parts, "path", code=2)
    asked = tmp_path / "asked.csv"
    asked.write_text("qid;Question\nq;path\n")
    command("search", *parts, "--columns", "id=key,text=body,queries.id=qid,queries.text=question", "--delimiter", ";",
            "--queries", asked, "--out", tmp_path / "run.trec")  # fmt: skip
    assert (tmp_path / "run.trec").read_text().startswith("q Q0 ")


def test_conditions_on_columns_that_were_converted(corpus, table, tmp_path):
    command("convert", table, tmp_path / "folder", "--to", "beir", *READING)
    parts = (
        "--index",
        corpus.index,
        "--model",
        corpus.model,
        "--dataset",
        tmp_path / "folder",
        "--cache",
        tmp_path / "c",
    )
    found = json.loads(command("search", *parts, "path", "--json", "--where", "Year >= 2008").splitlines()[-1])
    assert found["hits"] and all(int(hit["id"][1:]) % 10 >= 8 for hit in found["hits"])
