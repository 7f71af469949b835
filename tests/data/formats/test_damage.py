"""Files that were damaged on the way: what they still say, or a refusal that names them; never a traceback."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill import api
from retrieval_distill.config import ReadConfig
from retrieval_distill.data import dataset_loader, generated
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError

MARKDOWN = "---\ntitle: T\nyear: 2020\n---\n# Heading\n\n* a\n* b\n\n| x | y |\n|---|---|\n| 1 | 2 |\n"
HTML = (
    '<html><head><meta charset="utf-8"><title>T</title></head><body><h1>A</h1><p>caf\u00e9 <b>b</b></p></body></html>'
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A dataset in every format that is read, by its name."""
    root = tmp_path_factory.mktemp("whole")
    rows = [(f"d{row}", "", f"text {row} caf\u00e9") for row in range(30)]
    found = Dataset.from_records("x", rows, [("q", "ask")], {"test": [("q", "d1", 1)]})
    parents = pa.chunked_array([pa.array([id_ for id_, _, _ in rows], pa.large_string())])
    marks = generated.MARKS.empty_table().to_pandas()
    marks.loc[0] = ["q", "titles", "d1", "", "o"]
    told = replace(found, parents=parents, generated=pa.Table.from_pandas(marks, generated.MARKS, preserve_index=False))
    for to in ("beir", "csv", "parquet", "hugging-face", "ms-marco"):
        api.convert(told, out=root / to, to=to)
    (root / "files").mkdir()
    (root / "files" / "a.md").write_text(MARKDOWN)
    (root / "files" / "b.html").write_text(HTML)
    (root / "files" / "c.txt").write_text("caf\u00e9")
    return root


@pytest.mark.parametrize("name", ["beir", "csv", "parquet", "hugging-face", "ms-marco", "files"])
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_byte(folders, tmp_path_factory, name, data):
    folder = tmp_path_factory.mktemp("damaged") / name
    shutil.copytree(folders / name, folder)
    path = data.draw(st.sampled_from(sorted(path for path in folder.rglob("*") if path.is_file())))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        dataset_loader.load(
            str(folder), folder.parent / "cache", ReadConfig(on_bad=data.draw(st.sampled_from(["refuse", "skip"])))
        )
    except UserError as error:
        assert str(folder) in str(error)


def test_damaged_pages_of_parquet(tmp_path):
    """The footer is whole, and the rows are not: the message says how far the file could be read."""
    path = tmp_path / "docs.parquet"
    rows = {"id": [str(row) for row in range(20_000)], "text": [f"text {row * 7919 % 20_000}" for row in range(20_000)]}
    pq.write_table(pa.table(rows), path, row_group_size=5_000, compression="snappy")
    content = bytearray(path.read_bytes())
    place = len(content) * 3 // 4
    content[place : place + 2000] = bytes(2000)
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"{path}: damaged data after row \d*,?\d+ \("):
        dataset_loader.load(str(path), tmp_path / "cache")


def test_a_string_of_parquet_that_is_no_text(tmp_path):
    """One row is bad, and the others are read."""
    text = pa.array([b"fine", b"caf\xe9", b"well"], pa.binary()).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": text}), tmp_path / "docs.parquet")
    with pytest.raises(UserError, match=r"docs.parquet:2: .*UTF8"):
        dataset_loader.load(str(tmp_path / "docs.parquet"), tmp_path / "cache")
    kept = dataset_loader.load(str(tmp_path / "docs.parquet"), tmp_path / "cache", ReadConfig(on_bad="skip"))
    assert kept.documents.ids == ["a", "c"]
    assert kept.left_out["value that cannot be read"]["count"] == 1


@pytest.mark.parametrize("name", ["passages.parquet", "generated.parquet"])
def test_what_stands_beside_a_dataset(folders, tmp_path, name):
    folder = tmp_path / "beir"
    shutil.copytree(folders / "beir", folder)
    (folder / name).write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match=f"{folder / name}: this file was altered \\(its checksum does not match\\)"):
        dataset_loader.load(str(folder), tmp_path / "cache")
    (folder / "manifest.json").unlink()  # as that message offers
    with pytest.raises(UserError, match=f"{folder / name}: not a readable Parquet file"):
        dataset_loader.load(str(folder), tmp_path / "cache")
    pq.write_table(pa.table({"other": ["x"]}), folder / name)
    with pytest.raises(UserError, match=f"{folder / name} has no column"):
        dataset_loader.load(str(folder), tmp_path / "cache")


def test_a_file_that_may_not_be_read(tmp_path):
    (tmp_path / "docs.jsonl").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("x")
    with pytest.raises(UserError, match=r"docs.jsonl"):
        dataset_loader.load(str(tmp_path / "docs.jsonl"), tmp_path / "cache")
    for name in ("nowhere.jsonl", "nowhere.parquet", "nowhere.zip"):
        with pytest.raises(UserError, match=name):
            dataset_loader.load(str(tmp_path / name), tmp_path / "cache")
