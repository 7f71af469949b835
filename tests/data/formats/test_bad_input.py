"""Every kind of bad input is named by file and row: refused, or left out and counted, as the user chose."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest

from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader
from retrieval_distill.data.formats import lines
from retrieval_distill.errors import UserError

GOOD = b'{"id": "good", "text": "fine"}\n'

CASES = [
    ("c.jsonl", GOOD + b'{"id": "b", "text": "caf\xe9"}\n', ":2", "not utf-8", r"byte 0xe9 at column 25 is not utf-8"),
    ("c.jsonl", GOOD + b'{"id": "b", "text": "a\0b"}\n', ":2", "NUL byte", "NUL byte at column 23"),
    ("c.jsonl", GOOD + b'{"id": "b", "text": "\\ud800"}\n', ":2", "text that is not Unicode", "lone surrogate"),
    ("c.jsonl", GOOD + b'{"id": "b", \n', ":2", "not valid JSON", "not valid JSON"),
    ("c.jsonl", GOOD + b"[" * 100_000 + b"\n", ":2", "not valid JSON", "JSON"),
    ("c.jsonl", GOOD + GOOD, ":2", "duplicate id", "duplicate id 'good', first used on line 1"),
    (
        "c.jsonl",
        GOOD + b'{"id": 3.5, "text": "x"}\n',
        ":2",
        "id that is no string",
        "must be a non-empty string or a whole number, not 3.5",
    ),
    ("c.jsonl", GOOD + b'{"id": "b", "text": " "}\n', ":2", "empty passage", "the passage 'b' is empty"),
    ("c.jsonl", GOOD + b'{"id": "b", "body": "x"}\n', ":2", "passage without id or text", "it has 'id', 'body'"),
    ("c.csv", b"id,text\ngood,fine\nb,x,y\n", ":3", "ragged row", "3 fields, but the header has 2"),
    ("c.csv", b"id,text\ngood,fine\nb\n", ":3", "ragged row", "1 field, but the header has 2"),
    ("c.csv", b'id,text\ngood,fine\nb,"x"y\n', ":3", "not valid CSV", "not valid CSV"),
    ("c.tsv", b"id\ttext\ngood\tfine\nb\tx\ty\n", ":3", "ragged row", "3 fields, but the header has 2"),
]


@pytest.mark.parametrize(("name", "content", "row", "reason", "message"), CASES)
def test_rows(tmp_path, caplog, name, content, row, reason, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        dataset_loader.load(str(path), tmp_path)
    assert str(refused.value).startswith(f"{path}{row}: ")
    kept = dataset_loader.load(str(path), tmp_path, ReadConfig(on_bad="skip"))
    assert kept.documents.ids == ["good"]
    assert kept.left_out == {reason: {"count": 1, "first": [f"{path}{row}"]}}
    assert f"1 left out: {reason}; first {path}{row}" in caplog.text


def test_a_line_beyond_the_bound_is_passed_over_in_little_memory(tmp_path):
    """A hundred megabytes in one line; the process may not grow by more than a few times the bound."""
    import tracemalloc

    path = tmp_path / "c.jsonl"
    with path.open("wb") as out:
        out.write(b'{"id": "long", "text": "')
        for _ in range(100):
            out.write(b"x" * (1 << 20))
        out.write(b'"}\n' + GOOD)
    with pytest.raises(UserError, match=rf"{path}:1: the line has more than 16,777,216 characters"):
        dataset_loader.load(str(path), tmp_path)
    tracemalloc.start()
    kept = dataset_loader.load(str(path), tmp_path, ReadConfig(on_bad="skip"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert kept.documents.ids == ["good"]
    assert kept.left_out["line too long"]["count"] == 1
    assert peak < 6 * lines.MAX_CHARACTERS


def test_other_encodings_are_named_not_guessed(tmp_path):
    (tmp_path / "c.csv").write_bytes("id,text\na,café\n".encode("cp1252"))
    (tmp_path / "d.csv").write_bytes("id,text\na,café\n".encode("utf-16"))
    (tmp_path / "e.csv").write_bytes("\ufeffid,text\na,café\n".encode())
    (tmp_path / "f.csv").write_bytes("id,text\na,café\n".encode("utf-16-le"))
    named = {
        "c.csv": ["cp1252"],
        "d.csv": ["utf-16", "utf-16-le", "utf-8"],
        "e.csv": ["utf-8", "cp1252"],
        "f.csv": ["utf-16-le"],
    }
    for name, encoding in ((name, encoding) for name, encodings in named.items() for encoding in encodings):
        found = dataset_loader.load(str(tmp_path / name), tmp_path, ReadConfig(encoding=encoding))
        assert list(found.documents.records()) == [("a", "", "café")]
    with pytest.raises(UserError, match=r"c.csv:2: byte 0xe9 at column 6 is not utf-8"):
        dataset_loader.load(str(tmp_path / "c.csv"), tmp_path)
    with pytest.raises(UserError, match=r"f.csv: .*without a byte-order mark.* use utf-16-le or utf-16-be"):
        dataset_loader.load(str(tmp_path / "f.csv"), tmp_path, ReadConfig(encoding="utf-16"))
    with pytest.raises(UserError, match="encoding 'utf-9' is unknown"):
        dataset_loader.load(str(tmp_path / "c.csv"), tmp_path, ReadConfig(encoding="utf-9"))


def test_an_unclosed_quote_does_not_swallow_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval_distill.data.formats.delimited.MAX_CHARACTERS", 1000)
    path = tmp_path / "c.csv"
    path.write_text('id,text\na,fine\nb,"never closed\n' + "".join(f"r{row},text of row {row}\n" for row in range(200)))
    with pytest.raises(UserError, match=r"not valid CSV \(field larger than field limit"):
        dataset_loader.load(str(path), tmp_path)


def judged(tmp_path, text, **options):
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "text": "one"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "ask"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + text)
    return lambda on_bad: dataset_loader.load(str(tmp_path), tmp_path / "cache", ReadConfig(on_bad=on_bad))


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ("q1\td1\t1\nq1\td9\t1\n", "judgement of a document that does not exist", r"1 judgement names a document that does not exist: 'd9' \(line 3\)"),
        ("q1\td1\t1\nq9\td1\t1\n", "judgement of a query that does not exist", r"1 judgement names a query that does not exist: 'q9' \(line 3\)"),
        ("q1\td1\t1\nq1\td1\t2\n", "judged twice", "'q1' and 'd1' are judged twice, 1 and 2"),
        ("q1\td1\t1\nq1\td1\t0.5\n", "malformed judgement", "a grade must be a whole number, not '0.5'"),
        ("q1\td1\t1\nq1 d1 1\n", "malformed judgement", "expected query-id"),
    ],
)  # fmt: skip
def test_judgements(tmp_path, text, reason, message):
    read = judged(tmp_path, text)
    with pytest.raises(UserError, match=message):
        read("refuse")
    kept = read("skip")
    assert kept.qrels == {"test": {"q1": {"d1": 1}}}
    assert kept.left_out == {reason: {"count": 1, "first": [f"{tmp_path / 'qrels' / 'test.tsv'}:3"]}}


def test_judgements_of_what_was_left_out_are_counted(tmp_path):
    """An empty passage and a repeated id go, each by its row, and with them the judgements of the one that is gone."""
    read = judged(tmp_path, "q1\td1\t1\nq1\td2\t1\n")
    with (tmp_path / "corpus.jsonl").open("a") as out:
        out.write('{"_id": "d2", "text": " "}\n{"_id": "d1", "text": "again"}\n')
    with pytest.raises(UserError, match=r"corpus.jsonl:2: the passage 'd2' is empty"):
        read("refuse")
    kept = read("skip")
    assert list(kept.documents.records()) == [("d1", "", "one")] and kept.qrels == {"test": {"q1": {"d1": 1}}}
    assert kept.left_out == {
        "empty passage": {"count": 1, "first": [f"{tmp_path / 'corpus.jsonl'}:2"]},
        "duplicate id": {"count": 1, "first": [f"{tmp_path / 'corpus.jsonl'}:3"]},
        "judgement of a document that does not exist": {
            "count": 1,
            "first": [f"{tmp_path / 'qrels' / 'test.tsv'}:3"],
        },
    }


def test_ids_that_are_equal_once_they_are_strings(tmp_path):
    """A table whose ids are numbers gives digits, as a string column may have them already."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": [7, 8, 7], "text": ["one", "two", "three"]}), tmp_path / "c.parquet")
    with pytest.raises(UserError, match=r"c.parquet:3: duplicate id '7', first used on line 1"):
        dataset_loader.load(str(tmp_path / "c.parquet"), tmp_path)
    kept = dataset_loader.load(str(tmp_path / "c.parquet"), tmp_path, ReadConfig(on_bad="skip"))
    assert list(kept.documents.records()) == [("7", "", "one"), ("8", "", "two")]
    assert kept.left_out["duplicate id"]["count"] == 1


def test_a_file_that_is_no_parquet(tmp_path):
    (tmp_path / "c.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=r"c.parquet: not a readable Parquet file"):
        dataset_loader.load(str(tmp_path / "c.parquet"), tmp_path)


def archived(path, name):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo(name), GOOD)
    else:
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(name)
            member.size = len(GOOD)
            archive.addfile(member, io.BytesIO(GOOD))
    return str(path)


@pytest.mark.parametrize(
    ("ending", "name"),
    [
        ("zip", "../evil.txt"),
        ("zip", "a/../../evil.txt"),
        ("zip", "..\\evil.txt"),
        ("zip", "/evil.txt"),
        ("tar.gz", "../evil.txt"),
        ("tar.gz", "a/../../evil.txt"),
    ],
)
def test_an_archive_that_leads_outside_is_refused(tmp_path, ending, name):
    inside = tmp_path / "inside"
    inside.mkdir()
    source = archived(inside / f"a.{ending}", name)
    with pytest.raises(UserError) as refused:
        dataset_loader.load(source, tmp_path / "cache")
    assert f"a.{ending}: refused, {name!r} in it" in str(refused.value)
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("ending", ["zip", "tar.gz"])
def test_an_archive_is_read_as_its_folder(tmp_path, ending):
    source = archived(tmp_path / f"a.{ending}", "docs/sub/one.txt")
    found = dataset_loader.load(source, tmp_path / "cache")
    assert list(found.documents.records()) == [("sub/one.txt", "", GOOD.decode())]
    (tmp_path / "b.zip").write_bytes(b"PK no archive")
    with pytest.raises(UserError, match=r"b.zip: not a readable archive"):
        dataset_loader.load(str(tmp_path / "b.zip"), tmp_path / "cache")
