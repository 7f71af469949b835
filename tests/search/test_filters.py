"""Conditions of ``--where``: honest ones find what they say, and none does anything but compare columns."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.errors import UserError
from retrieval_distill.search import conditions, document_filter
from retrieval_distill.search.conditions import Condition


def dataset_of(ids) -> Dataset:
    return Dataset("own", Texts.from_records((id_, "", "text") for id_ in ids), Texts.from_records([]))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """20 documents: d0 to d19."""
    rows = [
        {
            "_id": f"d{i}",
            "text": "text",
            "year": 2000 + i,
            "lang": ["en", "de", None][i % 3],
            "tags": ["a", "b", "c"][: i % 4],
            "meta": {"source": "NIH" if i < 10 else "it's ours"},
            "date": f"2020-01-{i + 1:02}",
            "key": f"550E8400-E29B-41D4-A716-4466554400{i:02}",
            "version": f"1.{i}0",
        }
        for i in range(20)
    ]
    path = tmp_path_factory.mktemp("table") / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def found(where, table):
    return np.flatnonzero(
        document_filter.allowed_documents(where, table, dataset_of(f"d{i}" for i in range(20)))
    ).tolist()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("year >= 2017 AND lang = 'en'", [18]),
        ("lang LIKE 'e%' AND year < 2005", [0, 3]),
        ("lang ILIKE 'D_' AND year < 2005", [1, 4]),
        ("year IN (2001, 2003)", [1, 3]),
        ("lang IS NULL AND year <= 2005", [2, 5]),
        ("NOT (year BETWEEN 2001 AND 2018)", [0, 19]),
        ("list_contains(tags, 'c') AND year < 2008", [3, 7]),
        ("'c' IN tags AND year < 2008", [3, 7]),
        ("len(tags) = 3 AND tags[1] = 'a' AND year > 2015", [19]),
        ("meta.source = 'it''s ours' AND year = 2012", [12]),
        ("documents.year = 2012", [12]),
        ("date > '2020-01-18'", [18, 19]),
        ("date > DATE '2020-01-10' AND extract(day FROM date) < 13", [10, 11]),
        ("date + INTERVAL 2 DAY >= DATE '2020-01-22'", [19]),
        ("CASE WHEN lang = 'en' THEN year < 2002 ELSE year = 2001 END", [0, 1]),
        ("coalesce(lang, 'none') = 'none' AND year < 2003", [2]),
        ("year % 10 = 3 OR TRY_CAST(lang AS INT) IS NOT NULL", [3, 13]),
        ("lower(key) = '550e8400-e29b-41d4-a716-446655440007'", [7]),
        ("regexp_matches(_id, '^d1[89]$')", [18, 19]),
        ("YEAR = 2001 -- the first)", [1]),
        ('"year" = 2001 /* ); SELECT 1 */', [1]),
        ("_id IN ('d3', 'd4', 'elsewhere')", [3, 4]),
    ],
)
def test_honest_conditions(where, expected, table):
    assert found(where, table) == expected


@pytest.mark.parametrize(
    "where",
    [
        "1=1); COPY (SELECT 1) TO 'victim.jsonl'; SELECT 'd1' WHERE (1=1",
        "1=1); ATTACH 'victim.jsonl' AS other; SELECT 'd1' WHERE (1=1",
        "1=1); SET memory_limit='1TB'; SELECT 'd1' WHERE (1=1",
        "1=1); INSTALL httpfs; SELECT 'd1' WHERE (1=1",
        "1=1); DROP TABLE documents; SELECT 'd1' WHERE (1=1",
        "year = 2001; SELECT 1",
        "year = 2001) UNION ALL SELECT content FROM read_text('secret') WHERE (1=1",
        "year = 2001) ORDER BY (SELECT content FROM read_text('secret')",
        "year = 2001) GROUP BY (year",
        "year = 2001) LIMIT (1",
        "year = 2001) QUALIFY (true",
        "year = 2001) USING SAMPLE (1",
        "year = (SELECT count(*) FROM read_text('secret'))",
        "lang IN (SELECT content FROM read_text('secret'))",
        "lang = ANY (SELECT content FROM read_text('secret'))",
        "EXISTS (FROM read_csv('secret'))",
        "read_text('secret') = lang",
        "main.read_blob('secret') = lang",
        "year = 2001 AND /* one */ (/* two */ SELECT content FROM 'secret') = lang -- three",
        "{'class': (SELECT content FROM read_text('secret'))}.class = lang",
        "[content for content in (SELECT content FROM read_text('secret'))] = tags",
        "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT 1 FROM t) SELECT 1",
        "year = (WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x FROM t) SELECT max(x) FROM t)",
        "getenv('HOME') = lang",
        "getvariable('x') = lang",
        "current_setting('memory_limit') = lang",
        "query('SELECT 1') = lang",
        "sleep_ms(60000) IS NULL OR year = 1",
        "error(lang) IS NULL",
        "write_log(lang) IS NULL",
        "len(range(1000000000)) > year",
        "repeat('x', 1000000000) = lang",
        "levenshtein(lang, lang) = 0",
        "list_transform(tags, lambda x: x) = tags",
        "NULL::INT[99999][99999][99999] IS NULL AND year > 1",
        "sum(year) OVER () > 1",
        "COLUMNS(*) = 1",
        "year = $1",
        "year = ?",
        "#1 = 1",
        "*",
        "",
        "year = 2001 AND",
        "year = '",
        "/* year = 2001",
        "(" * 9_000,
        "- " * 4_000 + "year > 0",
        "NOT " * 2_000 + "true",
        "year" + ".a" * 4_000 + " > 1",
        "year = 1 OR " * 2_000 + "year = 2",
        "year = 2001 \ud800",
    ],
)
def test_what_is_no_condition_is_refused_and_does_nothing(where, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("secret of the file")
    (tmp_path / "victim.jsonl").write_text("as it was")
    with pytest.raises(UserError, match="--where") as refused:
        found(where, table)
    assert "secret of the file" not in str(refused.value) and len(str(refused.value)) < 2_000
    assert (tmp_path / "victim.jsonl").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret", "victim.jsonl"]


def test_what_was_checked_is_what_runs(table, tmp_path):
    """The parser drops a window that nothing uses, so it never runs, whatever it holds."""
    (tmp_path / "secret").write_text("secret")
    assert found(f"year = 2001) WINDOW w AS (ORDER BY (SELECT content FROM read_text('{tmp_path}/secret'))", table) == [
        1
    ]


def test_a_condition_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(conditions, "TIMEOUT", 0.05)
    condition = Condition.parse("a % 7 = 8 AND sqrt(a) + ln(a + 1) < 0")
    with conditions.connect() as connection:
        connection.execute(
            f"CREATE VIEW documents AS SELECT 'd' AS \"{conditions.ID}\", i AS a FROM range(100000000000) t(i)"
        )
        with pytest.raises(UserError, match="takes longer than"):
            condition.run(connection)


@pytest.mark.parametrize(("where", "said"), [("yaer = 2001", "did you mean 'year'"), ("1 = 1", "names no column")])
def test_a_condition_without_a_column_of_the_table_lists_them(where, said, table):
    with pytest.raises(UserError, match=said) as refused:
        found(where, table)
    assert "corpus.jsonl has: _id, text, year, lang, tags, meta, date, key, version" in str(refused.value)


IDS = {
    "upper-case UUIDs": ["550E8400-E29B-41D4-A716-446655440000", "550E8400-E29B-41D4-A716-446655440001"],
    "time stamps": ["2020-01-01T00:00:00Z", "2020-01-01 00:00:01"],
    "numbers": ["1.10", "1e3"],
    "leading zeros": ["007", "0x10"],
    "dates": ["2020-01-05", "2020-1-6"],
    "truth": ["true", "FALSE"],
}


@pytest.mark.parametrize("ids", IDS.values(), ids=IDS)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet"])
def test_ids_are_text_whatever_they_look_like(ids, ending, tmp_path):
    path = tmp_path / f"corpus.{ending}"
    rows = [{"_id": id_, "text": "text", "year": 2000 + i} for i, id_ in enumerate(ids)]
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        mark = "," if ending == "csv" else "\t"
        path.write_text("".join(mark.join(map(str, row)) + "\n" for row in [rows[0], *(r.values() for r in rows)]))
    data = dataset_of(ids)
    assert document_filter.allowed_documents("year >= 2000", path, data).tolist() == [True, True]
    assert document_filter.allowed_documents("year = 2001", path, data).tolist() == [False, True]
    assert document_filter.allowed_documents(f"_id = '{ids[0]}'", path, data).tolist() == [True, False]


def test_integer_ids_of_parquet_are_their_digits(tmp_path):
    pq.write_table(pa.table({"id": [1, 20], "year": [2000, 2001]}), tmp_path / "corpus.parquet")
    assert document_filter.allowed_documents(
        "year = 2001", tmp_path / "corpus.parquet", dataset_of(["1", "20"])
    ).tolist() == [
        False,
        True,
    ]


def test_a_column_that_changes_after_many_rows_is_read_whole(tmp_path):
    rows = ["id,grade\n", *(f"d{i},{i}\n" for i in range(30_000)), "last,none\n"]
    (tmp_path / "corpus.csv").write_text("".join(rows))
    assert document_filter.allowed_documents(
        "grade = 'none'", tmp_path / "corpus.csv", dataset_of(["d1", "last"])
    ).tolist() == [
        False,
        True,
    ]


def test_a_file_is_itself_and_no_pattern(tmp_path):
    folder = tmp_path / "da[ta]*"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "d1", "year": 1}\n')
    assert document_filter.allowed_documents("year = 1", folder / "corpus.jsonl", dataset_of(["d1"])).tolist() == [True]


def test_columns_by_other_names(tmp_path):
    (tmp_path / "corpus.CSV").write_text("Doc_ID,Year\nd1,2001\nd2,2002\n")
    with pytest.raises(UserError, match="no column _id or id; it has Doc_ID, Year"):
        document_filter.allowed_documents("year = 2001", tmp_path / "corpus.CSV", dataset_of(["d1", "d2"]))
    assert document_filter.allowed_documents(
        "year = 2001", tmp_path / "corpus.CSV", dataset_of(["d1", "d2"]), ["doc_id"]
    ).tolist() == [
        True,
        False,
    ]
