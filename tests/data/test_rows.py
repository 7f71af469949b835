"""The lean index answers as a dictionary does, colliding hashes included; mapped texts equal texts in memory."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval_distill.data import columns, hashes
from retrieval_distill.data.dataset import MAPPED, Texts
from retrieval_distill.data.rows import RowIndex

strings = st.lists(st.text(max_size=3), max_size=30)
TEXT_HASHES = hashes.text_hashes


def chunked(values: list[str], cuts: list[int]) -> pa.ChunkedArray:
    bounds = [0, *sorted({min(cut, len(values)) for cut in cuts}), len(values)]
    parts = [values[start:end] for start, end in pairwise(bounds)]
    return pa.chunked_array([pa.array(part, pa.large_string()) for part in parts], pa.large_string())


@pytest.mark.parametrize("distinct_hashes", [2**63, 3, 1])
@given(strings, strings, st.lists(st.integers(0, 30), max_size=4))
def test_as_a_dictionary(distinct_hashes, stored, asked, cuts):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hashes, "text_hashes", lambda texts: TEXT_HASHES(texts) % np.uint64(distinct_hashes))
        index = RowIndex.of(chunked(stored, cuts))
        first: dict[str, int] = {}
        for row, string in enumerate(stored):
            first.setdefault(string, row)
        assert index.find(asked).tolist() == [first.get(string, -1) for string in asked]
        assert [string in index for string in asked] == [string in first for string in asked]
        repeats = [(row, first[string]) for row, string in enumerate(stored) if first[string] != row]
        assert index.repeats() == repeats
        assert list(index) == stored and len(index) == len(stored)


def test_a_string_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="'c'"):
        RowIndex.of(chunked(["a", "b"], [])).rows_of(["a", "c"])


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.data())
def test_gathering_is_take(sizes, data):
    tables = [pa.table({"n": [100 * number + row for row in range(size)]}) for number, size in enumerate(sizes)]
    table = pa.concat_tables(tables)
    rows = data.draw(st.lists(st.integers(0, sum(sizes) - 1), min_size=1, max_size=12))
    values = table["n"].to_pylist()
    assert columns.gather(table.to_batches(), np.array(rows))["n"].to_pylist() == [values[row] for row in rows]


@given(
    st.lists(st.tuples(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4)), max_size=6), st.integers(0, 6)
)
def test_the_fingerprint_is_of_ids_titles_and_texts(records, cut):
    """Of all ids, then all titles, then all texts, each with a NUL behind it, however the table is cut."""
    in_columns = "".join(f"{value}\0" for column in zip(*records, strict=True) for value in column)
    parts = [Texts.from_records(part).table for part in (records[:cut], records[cut:])]
    assert Texts(pa.concat_tables(parts)).fingerprint == hashlib.sha256(in_columns.encode()).hexdigest()
    assert Texts(pa.concat_tables(parts).slice(1)).fingerprint == Texts.from_records(records[1:]).fingerprint


def test_what_was_kept_is_what_is_computed(tmp_path):
    records = [(f"d{row}", f"title {row % 3}", f"text {row} ü") for row in range(50)]
    columns.write(columns.batches(records), tmp_path / MAPPED)
    computed = Texts(columns.open_mapped(tmp_path / MAPPED))
    computed.keep(tmp_path)
    kept = Texts.open(tmp_path)
    assert kept.fingerprint == computed.fingerprint == Texts.from_records(records).fingerprint
    asked = ["d7", "none", "d49", "d0"]
    assert kept.rows.find(asked).tolist() == computed.rows.find(asked).tolist() == [7, -1, 49, 0]


def test_a_draw_is_fixed_by_its_seed_and_in_order():
    held = Texts.from_records((f"d{row}", "", str(row)) for row in range(50))
    drawn = held.sample(9, 3)
    assert drawn.ids == [f"d{row}" for row in sorted(np.random.default_rng(3).choice(50, 9, replace=False))]
    assert held.sample(None, 3) is held and held.sample(50, 3) is held


def test_mapped_texts_equal_texts_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(columns, "ROWS_PER_BATCH", 7)
    records = [(f"d{row}", f"title {row % 3}", f"text {row} ü") for row in range(50)]
    columns.write(columns.batches(records), tmp_path / "x.arrow")
    mapped, held = Texts(columns.open_mapped(tmp_path / "x.arrow")), Texts.from_records(records)
    assert len(mapped.table.to_batches()) == 8
    assert mapped.fingerprint == held.fingerprint
    some = ["d49", "d0", "d7", "d7", "d13"]
    assert mapped.take(some) == held.take(some) == [f"title {int(i[1:]) % 3} text {int(i[1:])} ü" for i in some]
    assert mapped.select(some).ids == some
    assert list(mapped.records()) == records
