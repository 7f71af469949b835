"""Training tables: our own in every format, and those that ``mine_hard_negatives`` writes, with and without scores."""

from __future__ import annotations

import csv
import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader
from retrieval_distill.data.formats import training_table
from retrieval_distill.data.formats.reading import Reading
from retrieval_distill.errors import UserError

OPTIONS = ReadConfig(format="sentence-transformers")


def written(tmp_path, ending, rows):
    path = tmp_path / f"table.{ending}"
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", newline="") as out:
            table = csv.DictWriter(out, rows[0])
            table.writeheader()
            table.writerows(rows)
    return str(path)


def grades(source):
    """Query -> text -> grade."""
    found = dataset_loader.load(source, "unused", OPTIONS)
    return {
        found.queries[query]: {found.documents[doc]: grade for doc, grade in judged.items()}
        for query, judged in found.qrels["train"].items()
    }


def scores(source):
    """Query -> text -> score."""
    found, run = dataset_loader.load(source, "unused", OPTIONS), training_table.scores(source, Reading.of(OPTIONS))
    pairs = zip(run.pairs, run.frame["score"], strict=True)
    return {(found.queries[query], found.documents[doc]): score for (query, doc), score in pairs}


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize(
    ("rows", "judged", "scored"),
    [
        ([{"query": "q", "answer": "p", "negative": "n", "scores": [0.9, -0.5]}], {"p": 1, "n": 0}, {"p": 0.9, "n": -0.5}),
        (
            [{"Anchor": "q", "Positive": "p", "negative_1": "n", "negative_2": "m", "scores": [3, 2, 1.5]}],
            {"p": 1, "n": 0, "m": 0},
            {"p": 3.0, "n": 2.0, "m": 1.5},
        ),
        ([{"query": "q", "positive": "p", "negative_1": "n", "negative_id": "17", "query_id": 4}], {"p": 1, "n": 0}, None),
        ([{"anchor": "q", "answer": "p", "label": 1}, {"anchor": "q", "answer": "n", "label": 0}], {"p": 1, "n": 0}, None),
        ([{"query": "q", "positive": "p"}], {"p": 1}, None),
    ],
)  # fmt: skip
def test_tables(tmp_path, ending, rows, judged, scored):
    source = written(tmp_path, ending, rows)
    assert grades(source) == {"q": judged}
    if scored is None:
        with pytest.raises(UserError, match="no row has a column 'scores'"):
            scores(source)
    else:
        assert scores(source) == {("q", text): score for text, score in scored.items()}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_lists_of_labelled_texts(tmp_path, ending):
    """The format ``labeled-list``; with scores in place of labels, the first text is the positive."""
    source = written(tmp_path, ending, [{"query": "q", "answer": ["p", "n"], "labels": [2, 0]}])
    assert grades(source) == {"q": {"p": 2, "n": 0}}
    source = written(tmp_path, ending, [{"query": "q", "answer": ["p", "n"], "scores": [0.9, 0.1]}])
    assert grades(source) == {"q": {"p": 1, "n": 0}}
    assert scores(source) == {("q", "p"): 0.9, ("q", "n"): 0.1}


def test_columns_that_are_not_used_are_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    grades(written(tmp_path, "jsonl", [{"query": "q", "positive": "p", "negative": "n", "negative_id": 3}]))
    assert "unused columns: negative_id" in caplog.text


@pytest.mark.parametrize("name", ["query", "positive", "negative", "unused"])
def test_half_a_character(tmp_path, name):
    row = {"query": "q", "positive": "p", "negative": "n", "unused": "\U0001f600"}  # both halves, as JSON escapes them
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {name: "\ud83d"}) + "\n")
    for read in (grades, scores):
        with pytest.raises(UserError, match=r"t.jsonl:2: lone surrogate '\\ud83d'"):
            read(str(tmp_path / "t.jsonl"))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
@pytest.mark.parametrize("value", ["high", '["x"]', "1.5", 1.5, True])
def test_scores_that_are_no_list_of_numbers(tmp_path, ending, value):
    good = {"query": "q", "positive": "p", "negative": "n"}
    source = written(tmp_path, ending, [good | {"scores": value}])
    for read in (grades, scores):
        with pytest.raises(UserError, match=rf"{source}:1: scores must be a number for every text, not "):
            read(source)


@pytest.mark.parametrize(
    "value", [None, [None, 1], ["x", "y"], [1, float("nan")], [1, float("inf")], [True, 1], {}, []]
)
def test_scores_with_something_else_among_them(tmp_path, value):
    rows = [{"query": "q", "positive": "p", "negative": "n", "scores": scores_} for scores_ in ([1, 0], value)]
    source = written(tmp_path, "jsonl", rows)
    with pytest.raises(UserError, match=rf"{source}:2: .*scores"):
        grades(source)
    skipping = Reading.of(ReadConfig(on_bad="skip"))
    assert len(training_table.scores(source, skipping)) == 2


def test_scores_of_text_in_csv(tmp_path):
    rows = [{"query": "q", "positive": "p", "negative": "n", "scores": value} for value in ("[2, 1]", "two")]
    with pytest.raises(UserError, match=r"table.csv:3: scores must be a number for every text, not 'two'"):
        scores(written(tmp_path, "csv", rows))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": 1, "positive": 5, "negative": 7}, "numbers are not texts"),
        ({"query": "q", "positive": "p", "negative": 7}, "numbers are not texts"),
        ({"query": "q", "positive": "p", "scores": [1, 2]}, "2 scores for 1 text"),
        ({"query": "q", "positive": ["p", "n"], "labels": [1]}, "1 labels for 2 texts"),
        ({"query": "q", "positive": "p", "label": 0.5}, r"a grade must be a whole number, not 0\.5"),
        ({"query": "q", "positive": "p", "score": 0.5}, "pairs with a score have no judgement"),
        ({"query": "q", "positive": [], "labels": []}, "needs texts"),
        ({"query": "q", "positive": " "}, "needs texts"),
    ],
)
def test_rows_that_do_not_say_enough(tmp_path, row, message):
    source = written(tmp_path, "jsonl", [row])
    with pytest.raises(UserError, match=f"table.jsonl:1: .*{message}"):
        grades(source)


def test_ids_in_a_table_of_strings_are_said(tmp_path, caplog):
    grades(written(tmp_path, "csv", [{"query": "1", "positive": "5", "negative": "7"}]))
    assert "all its texts are numbers; if these are ids" in caplog.text
