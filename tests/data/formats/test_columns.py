"""Tables of others: names in any case, other separators, objects within rows; what has no role travels along."""

from __future__ import annotations

import logging
from dataclasses import replace

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill import api
from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader, metadata, mixture
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import texts as texts_format
from retrieval_distill.errors import UserError


def read(path, **options):
    return dataset_loader.load(str(path), path.parent / "cache", ReadConfig(**options))


def further(dataset):
    """The rows of a dataset's table without title and text."""
    return metadata.table(dataset).drop_columns(["title", "text"]).to_pylist()


def test_case_of_names(tmp_path):
    path = tmp_path / "docs.csv"
    path.write_text("ID,Title,TEXT\n1,Name,words\n")
    assert list(read(path).documents.records()) == [("1", "Name", "words")]
    path.write_text("key,Headline,Body\n1,Name,words\n")
    options = {"columns": {"id": "KEY", "title": "headline", "text": "BODY"}}
    assert list(read(path, **options).documents.records()) == [("1", "Name", "words")]
    path.write_text("id,Text,TEXT\n1,one,two\n")
    with pytest.raises(UserError, match=r"docs.csv:2: 'Text' and 'TEXT' differ only in case; name one"):
        read(path)
    assert read(path, columns={"text": "TEXT"}).documents["1"] == "two"
    (tmp_path / "qrels.csv").write_text("Query-ID,Corpus-ID,Score\nq,1,2\n")
    (tmp_path / "queries.tsv").write_text("Id\tText\nq\task\n")
    options = {
        "columns": {"text": "TEXT"},
        "queries": str(tmp_path / "queries.tsv"),
        "qrels": {"test": str(tmp_path / "qrels.csv")},
    }
    assert read(path, **options).qrels == {"test": {"q": {"1": 2}}}


def test_columns_without_a_role_are_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    path = tmp_path / "docs.csv"
    path.write_text("id,Headline,text,empty\n1,Name,words,\n")
    read(path)
    assert f"{path}: read id=id, text=text; further columns, for --where: Headline" in caplog.text


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("id;text\na;one, two\n", {"delimiter": ";"}),
        ("sep=;\nid;text\na;one, two\n", {}),
        ('"sep=|"\r\nid|text\r\na|one, two\r\n', {}),
        ("sep=,\nid;text\na;one, two\n", {"delimiter": ";"}),
        ("id\ttext\na\tone, two\n", {"delimiter": "tab"}),
        ('id,text\ra,"one, two"\r', {}),
        ("\ufeffsep=;\rid;text\ra;one, two\r", {}),
    ],
)
def test_separators_and_line_ends(tmp_path, content, options):
    path = tmp_path / "docs.csv"
    path.write_bytes(content.encode())
    assert list(read(path, **options).documents.records()) == [("a", "", "one, two")]


def test_tabs_and_lines_of_old_macs(tmp_path):
    (tmp_path / "docs.tsv").write_bytes(b"id\ttext\ra\tone\rb\ttwo\r")
    assert read(tmp_path / "docs.tsv").documents.ids == ["a", "b"]
    (tmp_path / "docs.tsv").write_bytes(b"id\ttext\na\tone\rstill one\n")
    assert read(tmp_path / "docs.tsv").documents["a"] == "one\rstill one"


def test_the_way_out_is_said(tmp_path):
    path = tmp_path / "docs.csv"
    for mark, option in ((";", "';'"), ("\t", "tab"), ("|", "'|'")):
        path.write_text(f"id{mark}text\na{mark}b\n")
        with pytest.raises(UserError, match=r"docs.csv:1: the header has only one column") as refused:
            read(path)
        assert str(refused.value).endswith(f"--delimiter {option}")
    for wrong in (";;", "", '"', "\n"):
        with pytest.raises(ValueError, match="delimiter"):
            ReadConfig(delimiter=wrong)


def test_objects_within_rows(tmp_path):
    """As a search engine exports its documents; what is not named of an object stays one."""
    path = tmp_path / "export.jsonl"
    path.write_text(
        '{"_index": "i", "_id": "1", "_source": {"Title": "T", "body": {"en": "words"}, "year": 2020}}\n'
        '{"_index": "i", "_id": "2", "_source": {"body": {"en": "more", "de": "mehr"}}}\n'
    )
    options = {"columns": {"title": "_source.title", "text": "_source.body.en"}}
    found = read(path, **options)
    assert list(found.documents.records()) == [("1", "T", "words"), ("2", "", "more")]
    assert further(found) == [
        {"id": "1", "_index": "i", "_source": '{"body": {}, "year": 2020}'},
        {"id": "2", "_index": "i", "_source": '{"body": {"de": "mehr"}}'},
    ]
    path.write_text('{"_id": "1", "_source": "none"}\n')
    with pytest.raises(UserError, match=r"export.jsonl:1: a passage needs the fields"):
        read(path, **options)
    path.write_text('{"_id": "1", "a.b": "whole name", "a": {"b": "no"}}\n')
    assert read(path, columns={"text": "a.b"}).documents["1"] == "whole name"


ROWS = [
    {
        "id": "a",
        "title": "",
        "text": "one",
        "year": 2020,
        "price": 1.5,
        "source": "NIH",
        "tags": ["x", "y"],
        "new": True,
    },
    {"id": "b", "title": "T", "text": "two", "year": 1999, "price": 2, "at": {"page": 3}, "mixed": 1, "big": 2**70},
    {"id": "c", "title": "", "text": "three", "mixed": "é", "year": None, "source": "", "tags": []},
]
TYPED = [
    {"id": "a", "year": 2020, "price": 1.5, "source": "NIH", "tags": '["x", "y"]', "new": True, "at": None, "mixed": None, "big": None},
    {"id": "b", "year": 1999, "price": 2.0, "source": None, "tags": None, "new": None, "at": '{"page": 3}', "mixed": "1", "big": str(2**70)},
    {"id": "c", "year": None, "price": None, "source": None, "tags": None, "new": None, "at": None, "mixed": "é", "big": None},
]  # fmt: skip


@pytest.fixture
def source(tmp_path):
    import json

    path = tmp_path / "docs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return read(path)


def test_further_columns_are_typed(source):
    assert further(source) == TYPED


@pytest.mark.parametrize("to", ["beir", "jsonl", "parquet", "hugging-face", "csv"])
def test_further_columns_survive_every_table(tmp_path, source, to):
    api.convert(source, out=tmp_path / "out", to=to)
    again = read(tmp_path / "out")
    assert list(again.documents.records()) == list(source.documents.records())
    expected = [{**row, "new": row["new"] and "true"} for row in TYPED] if to == "csv" else TYPED
    assert further(again) == expected


def test_further_columns_that_cannot_be_kept_are_named(tmp_path, source, caplog):
    api.convert(source, out=tmp_path / "out", to="ms-marco")
    assert "this format supports no further columns; left out: year, price, source, tags" in caplog.text


def test_further_columns_survive_cleaning_cutting_and_joining(tmp_path, source):
    api.prepare(source, out=tmp_path / "clean")
    cleaned = read(tmp_path / "clean")
    assert further(cleaned) == TYPED
    parents = pa.chunked_array([pa.array(["a", "a"], pa.large_string())])
    passages = Dataset.from_records("x", [("a#1", "", "o"), ("a#2", "", "ne")], [], {}).documents
    cut = replace(source, documents=passages, parents=parents)
    assert [(row["id"], row["year"]) for row in further(cut)] == [("a#1", 2020), ("a#2", 2020)]
    api.convert(cut, out=tmp_path / "cut", to="beir")
    again = read(tmp_path / "cut")
    assert further(again) == further(cut) and again.parents.to_pylist() == ["a", "a"]
    joined = mixture.join_datasets({"one": source, "two": replace(source, metadata=None)})
    assert [(row["id"], row["year"]) for row in further(joined)][:4] == [
        ("one/a", 2020), ("one/b", 1999), ("one/c", None), ("two/a", None),
    ]  # fmt: skip


def test_cleaning_is_done_again_when_only_a_further_column_changes(tmp_path):
    path = tmp_path / "docs.jsonl"
    for year in (2020, 2021):
        path.write_text(f'{{"id": "a", "text": "one", "year": {year}}}\n')
        api.prepare(read(path), out=tmp_path / "clean")
        assert further(read(tmp_path / "clean")) == [{"id": "a", "year": year}]


def test_numbers_in_csv_are_numbers_if_they_are_written_just_so(tmp_path):
    """A column with one that is not stays as it was written, so that nothing of it is lost."""
    path = tmp_path / "docs.csv"
    path.write_text("id,text,year,share,version,zip,code\n007,a,2020,0.5,1.10,02139,1e3\n1.10,b,-1,2,1.9,10115,2e3\n")
    found = read(path)
    rows = [
        {"id": "007", "year": 2020, "share": 0.5, "version": "1.10", "zip": "02139", "code": "1e3"},
        {"id": "1.10", "year": -1, "share": 2.0, "version": "1.9", "zip": "10115", "code": "2e3"},
    ]
    assert further(found) == rows
    api.convert(found, out=tmp_path / "out", to="beir")
    assert further(read(tmp_path / "out")) == rows


def test_names_that_mean_something_else_in_tables_that_are_written(tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text('{"key": "a", "text": "one", "_id": "x", "Title": "other", "id": 5, "id_": 6}\n')
    found = read(path, columns={"id": "key", "title": "none"})
    assert further(found) == [{"id": "a", "_id_": "x", "Title_": "other", "id__": 5, "id_": 6}]
    for to in ("beir", "parquet", "csv"):
        api.convert(found, out=tmp_path / to, to=to)
        again = read(tmp_path / to)
        assert list(again.documents.records()) == [("a", "", "one")]
        assert further(again)[0] | {"id": "a"} == further(found)[0]


def test_values_of_parquet(tmp_path):
    """Times as ISO 8601 has them; no bytes; what is not a number is nothing."""
    import datetime

    table = pa.table({"id": [1], "text": ["a"], "day": [datetime.date(2020, 1, 2)], "raw": [b"x"], "n": [float("nan")], "year": [2020]})  # fmt: skip
    pq.write_table(table, tmp_path / "docs.parquet")
    assert further(read(tmp_path / "docs.parquet")) == [{"id": "1", "day": "2020-01-02", "year": 2020}]


def test_half_a_character_in_a_further_column_is_a_bad_row(tmp_path):
    (tmp_path / "docs.jsonl").write_text('{"id": "a", "text": "one", "who": "\\ud800"}\n')
    with pytest.raises(UserError, match=r"docs.jsonl:1: lone surrogate"):
        read(tmp_path / "docs.jsonl")


def test_large_sources_keep_further_columns_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(texts_format, "MAPPED_FROM_BYTES", 0)
    path = tmp_path / "docs.jsonl"
    path.write_text('{"id": "a", "text": "one", "year": 2020}\n{"id": "b", "text": "two"}\n')
    for _ in range(2):  # the second time from the cache
        assert further(read(path)) == [{"id": "a", "year": 2020}, {"id": "b", "year": None}]
    path.write_text('{"id": "a", "text": "one"}\n')
    assert read(path).metadata is None


scalars = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), min_size=1))  # fmt: skip
names = st.text(st.characters(min_codepoint=97, max_codepoint=100), min_size=1, max_size=3)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.dictionaries(names, st.one_of(scalars, st.lists(scalars, min_size=1, max_size=2)), max_size=3),
        min_size=1,
        max_size=4,
    )
)
def test_any_further_columns_come_back(tmp_path_factory, rows):
    """JSON lines give the same values; Parquet the same typed table."""
    import json

    tmp_path = tmp_path_factory.mktemp("any")
    path = tmp_path / "docs.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for number, row in enumerate(rows):
            out.write(json.dumps({"id": str(number), "text": "x", **row}) + "\n")
    found = read(path)
    assert [
        values for part in [list(metadata.records(found, sorted({n for row in rows for n in row})))] for values in part
    ] == [
        (str(number), "", "x", *(row.get(name) for name in sorted({n for row in rows for n in row})))
        for number, row in enumerate(rows)
    ]
    for to in ("beir", "parquet"):
        api.convert(found, out=tmp_path / to, to=to)
        assert (
            metadata.table(read(tmp_path / to)).select(metadata.table(found).column_names).equals(metadata.table(found))
        )


def test_hub_style_tables(tmp_path):
    rows = {"id": [1, 2], "text": ["a", "b"], "year": [2020, None], "meta": [{"page": 3}, None]}
    datasets.Dataset.from_dict(rows).save_to_disk(str(tmp_path / "saved"))
    assert further(read(tmp_path / "saved")) == [
        {"id": "1", "year": 2020, "meta": '{"page": 3}'},
        {"id": "2", "year": None, "meta": None},
    ]


def test_queries_are_generated_for_documents_with_their_columns(tmp_path):
    path = tmp_path / "docs.jsonl"
    for year in (2020, 2021):
        path.write_text(f'{{"id": "a", "title": "All of the title", "text": "one two three", "year": {year}}}\n')
        api.generate(read(path), out=tmp_path / "made", ways={"titles": 1}, round_trip={"retrieval": None})
        found = read(tmp_path / "made")
        assert found.qrels("generated") and further(found) == [{"id": "a", "year": year}]
