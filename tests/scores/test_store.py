"""The score store keeps every committed score through crashes, damage, full disks and several processes at once."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.data.hashes import text_hash, text_hashes
from retrieval_distill.errors import UserError
from retrieval_distill.scores import lookup
from retrieval_distill.scores.store import ScoreStore
from tests.programs import Program

ADDER = """
import sys
import numpy as np
from retrieval_distill.scores.store import ScoreStore
root, start, shards, size = sys.argv[1], *map(int, sys.argv[2:])
store = ScoreStore(root)
sys.stdin.readline()
for shard in range(start, start + shards):
    rows = np.arange(shard * size, (shard + 1) * size, dtype=np.uint64)
    store.add("t", rows, rows, rows)
    print(shard, flush=True)
"""


def pairs(*rows):
    """(queries, documents) of (query, document) tuples."""
    table = np.array(rows, np.uint64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def same(values: np.ndarray, expected: list[float]) -> bool:
    return values.dtype == np.float32 and np.array_equal(values, np.array(expected, np.float32), equal_nan=True)


def adder(root: Path, start: int, shards: int, size: int) -> Program:
    return Program("-c", ADDER, root, start, shards, size)


@pytest.fixture
def store(tmp_path: Path) -> ScoreStore:
    return ScoreStore(tmp_path / "scores")


@pytest.fixture
def filled(store: ScoreStore) -> ScoreStore:
    """Two shards: pairs (1, 1), (1, 2) and pairs (2, 1), (2, 2)."""
    store.add("t", *pairs((1, 1), (1, 2)), np.array([11, 12]))
    store.add("t", *pairs((2, 1), (2, 2)), np.array([21, 22]))
    return store


def test_a_text_hash_is_the_first_8_bytes_of_blake2b():
    expected = int.from_bytes(hashlib.blake2b("größe".encode()).digest()[:8], "big")
    assert text_hash("größe") == expected
    hashes = text_hashes(["größe", "", "größe"])
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [expected, text_hash(""), expected]
    assert text_hashes([]).shape == (0,)


def test_scores_come_back_aligned_with_the_question(filled: ScoreStore):
    asked = pairs((2, 2), (3, 3), (1, 1), (2, 2), (1, 2))
    assert same(filled.lookup("t", *asked), [22, np.nan, 11, 22, 12])
    assert same(ScoreStore(filled.root).lookup("t", *asked), [22, np.nan, 11, 22, 12])
    assert same(filled.lookup("another", *asked), [np.nan] * 5)
    assert same(filled.lookup("t", *pairs()), [])


def test_a_pair_of_texts_keeps_all_64_bits(store: ScoreStore):
    queries, documents = text_hashes([f"query {i}" for i in range(500)]), text_hashes([f"text {i}" for i in range(500)])
    store.add("t", queries, documents, np.arange(500))
    assert same(store.lookup("t", queries[::-1], documents[::-1]), list(range(499, -1, -1)))
    assert np.isnan(store.lookup("t", queries, documents[::-1])).all()
    assert np.isnan(store.lookup("t", documents, queries)).all()


def test_missing_names_each_pair_once_where_it_first_occurs(filled: ScoreStore):
    asked = pairs((3, 3), (1, 1), (3, 3), (0, 9), (2, 2), (0, 9), (3, 4))
    rows = filled.missing("t", *asked)
    assert rows.dtype == np.int64
    assert rows.tolist() == [0, 3, 6]
    filled.add("t", asked[0][rows], asked[1][rows], np.zeros(3))
    assert filled.missing("t", *asked).tolist() == []
    assert filled.missing("another", *asked).tolist() == [0, 1, 3, 4, 6]
    assert filled.missing("t", *pairs()).tolist() == []


def test_several_passes_give_the_same_answer_as_one(store: ScoreStore, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    queries, documents = rng.integers(0, 9, (2, 300), np.uint64)
    store.add("t", queries[:40], documents[:40], np.arange(40))
    scores, rows = store.lookup("t", queries, documents), store.missing("t", queries, documents)
    monkeypatch.setattr(lookup, "PAIRS_PER_PASS", 17)
    monkeypatch.setattr(lookup, "PAIRS_PER_BATCH", 7)
    assert same(store.lookup("t", queries, documents), scores.tolist())
    assert store.missing("t", queries, documents).tolist() == rows.tolist()
    assert 0 < len(rows) < 81


def test_of_a_pair_scored_twice_the_smallest_score_counts(filled: ScoreStore, tmp_path: Path):
    filled.add("t", *pairs((1, 1), (2, 1), (2, 1)), np.array([10, 30, 40]))
    assert same(filled.lookup("t", *pairs((1, 1), (2, 1))), [10, 21])
    filled.export("t", tmp_path / "out" / "scores.parquet")
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert table.to_pydict() == {"query": [1, 1, 2, 2], "document": [1, 2, 1, 2], "score": [10, 12, 21, 22]}
    assert [str(column.type) for column in table.columns] == ["uint64", "uint64", "float"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.parquet"]


def test_teachers_are_listed_with_their_first_description(filled: ScoreStore):
    filled.describe("t", {"model": "first"})
    filled.describe("t", {"model": "second"})
    filled.describe("a", {"model": "none scored yet"})
    filled.add("t", *pairs((1, 1), (5, 5)), np.array([1, 5]))
    assert ScoreStore(filled.root).teachers() == [
        {"fingerprint": "a", "description": {"model": "none scored yet"}, "pairs": 0, "shards": 0},
        {"fingerprint": "t", "description": {"model": "first"}, "pairs": 5, "shards": 3},
    ]


def test_reading_an_unwritten_store_writes_nothing(tmp_path: Path):
    store = ScoreStore(tmp_path / "none")
    assert store.teachers() == []
    assert store.verify("t") == []
    assert same(store.lookup("t", *pairs((1, 1))), [np.nan])
    assert not store.root.exists()


def test_a_shard_is_named_by_its_bytes(store: ScoreStore):
    shard = store.add("t", *pairs((1, 1)), np.array([1]))
    assert shard == store.root / "t" / f"{hashlib.sha256(shard.read_bytes()).hexdigest()[:32]}.parquet"
    assert store.add("t", *pairs((1, 1)), np.array([1])) == shard
    assert json.loads((store.root / "store.json").read_text()) == {"format": 1}


def test_folder_names_are_not_patterns(tmp_path: Path):
    store = ScoreStore(tmp_path / "runs [old] *?" / "query=7")
    store.add("t", *pairs((1, 1)), np.array([1]))
    assert same(store.lookup("t", *pairs((1, 1), (7, 1))), [1, np.nan])


def truncate(shard: Path) -> None:
    shard.write_bytes(shard.read_bytes()[:-9])


def flip_a_byte(shard: Path) -> None:
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 4
    shard.write_bytes(content)


def empty(shard: Path) -> None:
    shard.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip_a_byte, empty])
def test_a_damaged_shard_is_named_set_aside_and_scored_again(
    filled: ScoreStore, caplog: pytest.LogCaptureFixture, damage
):
    asked = pairs((1, 1), (1, 2), (2, 1), (2, 2))
    shard = filled.add("t", *pairs((3, 3)), np.array([33]))
    damage(shard)
    opened = ScoreStore(filled.root)
    assert opened.missing("t", *pairs((1, 1), (3, 3))).tolist() == [1]
    assert str(shard) in caplog.text
    assert "damaged" in caplog.text
    assert not shard.exists()
    assert shard.with_name(f"{shard.name}.damaged").exists()
    assert same(opened.lookup("t", *asked), [11, 12, 21, 22])
    assert opened.teachers()[0]["shards"] == 2
    assert opened.add("t", *pairs((3, 3)), np.array([33])) == shard
    assert same(opened.lookup("t", *pairs((3, 3))), [33])


def test_a_torn_and_an_altered_shard_are_both_named_and_only_their_pairs_scored_again(
    filled: ScoreStore, caplog: pytest.LogCaptureFixture
):
    torn = filled.add("t", *pairs((3, 3), (3, 4)), np.array([33, 34]))
    altered = filled.add("t", *pairs((4, 4)), np.array([44]))
    truncate(torn)
    flip_a_byte(altered)
    opened, asked = ScoreStore(filled.root), pairs((1, 1), (3, 3), (2, 2), (4, 4), (3, 4))
    missing = opened.missing("t", *asked)
    assert missing.tolist() == [1, 3, 4]
    for shard in (torn, altered):
        assert f"{shard} is damaged; set aside as {shard.name}.damaged" in caplog.text
        assert not shard.exists()
    opened.add("t", asked[0][missing], asked[1][missing], np.array([33, 44, 34]))
    assert same(ScoreStore(filled.root).lookup("t", *asked), [11, 33, 22, 44, 34])


def test_verify_rehashes_what_this_process_has_already_read(filled: ScoreStore):
    shard = filled.add("t", *pairs((3, 3)), np.array([33]))
    assert filled.verify("t") == []
    flip_a_byte(shard)
    assert filled.verify("t") == [shard.with_name(f"{shard.name}.damaged")]
    assert filled.verify("t") == []
    assert filled.missing("t", *pairs((3, 3), (1, 1))).tolist() == [0]


def test_files_in_the_making_are_not_read(filled: ScoreStore):
    (filled.root / "t" / ".tmp-1-abcd").write_bytes(b"half a shard")
    (filled.root / "t" / "._0123.parquet").write_bytes(b"left by a file manager")
    opened = ScoreStore(filled.root)
    assert opened.verify("t") == []
    assert same(opened.lookup("t", *pairs((1, 1), (2, 2))), [11, 22])


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path):
    root, size, shards = tmp_path / "scores", 50, 15
    running = [adder(root, start, shards, size) for start in (0, 10)]  # five shards are written by both
    for process in running:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in running:
        assert len(process.communicate()[0].split()) == shards
        assert process.returncode == 0
    rows = np.arange(25 * size, dtype=np.uint64)
    store = ScoreStore(root)
    assert same(store.lookup("t", rows, rows), rows.tolist())
    assert store.teachers() == [{"fingerprint": "t", "description": {}, "pairs": 25 * size, "shards": 25}]
    assert not list((root / "t").glob(".tmp-*"))


@pytest.mark.parametrize("milliseconds", [1, 7, 20])
def test_kill_9_leaves_whole_shards_only(tmp_path: Path, milliseconds: int):
    root, size = tmp_path / "scores", 100_000
    process = adder(root, 0, 10_000, size)
    process.stdin.write("go\n")
    process.stdin.flush()
    reported = [int(process.stdout.readline()) for _ in range(2)]
    time.sleep(milliseconds / 1000)
    process.send_signal(signal.SIGKILL)
    reported += [int(line) for line in process.communicate()[0].split()]
    store = ScoreStore(root)
    assert store.verify("t") == []
    rows = np.array(reported, np.uint64) * np.uint64(size)
    assert same(store.lookup("t", rows, rows), rows.tolist())
    assert len(reported) <= store.teachers()[0]["shards"] <= len(reported) + 1


def test_a_newer_format_is_refused(tmp_path: Path):
    (tmp_path / "store.json").write_text('{"format": 2}')
    with pytest.raises(UserError, match=r"store\.json.*format 2.*up to 1; update retrieval-distill"):
        ScoreStore(tmp_path)


@pytest.mark.parametrize("header", ["", "[]", '{"version": 1}'])
def test_a_foreign_header_is_refused(tmp_path: Path, header: str):
    (tmp_path / "store.json").write_text(header)
    with pytest.raises(UserError, match=r"store\.json: not the header of a score store"):
        ScoreStore(tmp_path)


def test_a_file_is_not_a_store(tmp_path: Path):
    (tmp_path / "scores").write_text("")
    with pytest.raises(UserError, match="scores: a score store is a folder"):
        ScoreStore(tmp_path / "scores")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_scores_that_are_not_numbers_are_refused(filled: ScoreStore, bad: float):
    scores = np.arange(6, dtype=np.float64)
    scores[[2, 4]] = bad
    before = sorted(filled.root.rglob("*"))
    with pytest.raises(UserError, match=r"2 of 6 scores are NaN or infinite.* in row 2"):
        filled.add("t", np.arange(6), np.arange(6), scores)
    assert sorted(filled.root.rglob("*")) == before


def test_a_fingerprint_cannot_leave_the_store(store: ScoreStore):
    for name in ("../t", "a/b", "", ".hidden"):
        with pytest.raises(UserError, match="not a teacher fingerprint"):
            store.add(name, *pairs((1, 1)), np.array([1]))


def test_columns_of_different_lengths_are_refused(store: ScoreStore):
    with pytest.raises(ValueError, match="2 queries but 1 documents"):
        store.lookup("t", np.arange(2), np.arange(1))
    with pytest.raises(ValueError, match="length"):
        store.add("t", np.arange(2), np.arange(2), np.zeros(3))


def test_exporting_an_unknown_teacher_names_the_known_ones(filled: ScoreStore, tmp_path: Path):
    with pytest.raises(UserError, match=r"no scores of teacher 'x'; teachers here: t"):
        filled.export("x", tmp_path / "x.parquet")


def full_disk(*args, **kwargs) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_a_table(table, path, **kwargs) -> None:
    Path(path).write_bytes(b"PAR1")
    full_disk()


@pytest.mark.parametrize(("target", "name", "failure"), [(pq, "write_table", half_a_table), (os, "fsync", full_disk)])
def test_a_full_disk_leaves_nothing_behind(filled: ScoreStore, monkeypatch, target, name, failure):
    before = sorted(filled.root.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(target, name, failure)
        with pytest.raises(UserError, match=r"the disk is full.*every score committed so far is kept"):
            filled.add("t", *pairs((3, 3)), np.array([33]))
    assert sorted(filled.root.rglob("*")) == before
    assert same(filled.lookup("t", *pairs((1, 1), (2, 2), (3, 3))), [11, 22, np.nan])
    filled.add("t", *pairs((3, 3)), np.array([33]))
    assert same(filled.lookup("t", *pairs((3, 3))), [33])


def test_merging_gives_the_union(filled: ScoreStore, tmp_path: Path):
    other = ScoreStore(tmp_path / "other")
    other.describe("u", {"model": "second teacher"})
    other.add("t", *pairs((1, 1), (1, 2)), np.array([11, 12]))  # the same shard as one of ours
    other.add("t", *pairs((2, 2), (9, 9)), np.array([20, 99]))
    other.add("u", *pairs((1, 1)), np.array([-1]))
    assert filled.merge(other) == 2
    assert filled.merge(other) == 0
    assert filled.merge(filled) == 0
    assert same(filled.lookup("t", *pairs((1, 1), (1, 2), (2, 1), (2, 2), (9, 9))), [11, 12, 21, 20, 99])
    assert same(filled.lookup("u", *pairs((1, 1))), [-1])
    assert [(t["fingerprint"], t["pairs"], t["shards"]) for t in filled.teachers()] == [("t", 5, 3), ("u", 1, 1)]
    assert filled.teachers()[1]["description"] == {"model": "second teacher"}


def test_merging_mends_our_damage_and_takes_over_none(filled: ScoreStore, tmp_path: Path, caplog):
    other = ScoreStore(tmp_path / "other")
    good = other.add("t", *pairs((1, 1), (1, 2)), np.array([11, 12]))
    bad = other.add("t", *pairs((9, 9)), np.array([99]))
    flip_a_byte(bad)
    flip_a_byte(filled.root / "t" / good.name)
    opened = ScoreStore(filled.root)
    assert opened.merge(ScoreStore(other.root)) == 1
    assert f"{bad} is damaged; not copied" in caplog.text
    assert bad.exists()
    assert same(opened.lookup("t", *pairs((1, 1), (1, 2), (2, 1), (9, 9))), [11, 12, 21, np.nan])
    assert not list((opened.root / "t").glob(".tmp-*"))


def test_merging_with_a_store_that_is_not_there_is_refused(filled: ScoreStore, tmp_path: Path):
    with pytest.raises(UserError, match="typo: no such score store"):
        filled.merge(ScoreStore(tmp_path / "typo"))


def test_importing_the_store_is_light():
    loaded = "import sys, retrieval_distill.scores.store; print({'duckdb', 'torch', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout.strip() == "set()"


KEY = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1])
PAIR = st.tuples(KEY, KEY)
SHARD = st.lists(st.tuples(PAIR, st.floats(width=32, allow_nan=False, allow_infinity=False)), max_size=6)


@settings(max_examples=15, derandomize=True)
@given(shards=st.lists(SHARD, max_size=4), asked=st.lists(PAIR, max_size=12), reopened=st.booleans())
def test_a_store_behaves_like_a_dictionary(shards, asked, reopened):
    with tempfile.TemporaryDirectory() as folder:
        store, expected = ScoreStore(folder), {}
        for shard in shards:
            store.add("t", *pairs(*(pair for pair, _ in shard)), np.array([score for _, score in shard]))
            for pair, score in shard:
                expected[pair] = min(score, expected.get(pair, np.inf))
        store = ScoreStore(folder) if reopened else store
        assert same(store.lookup("t", *pairs(*asked)), [expected.get(pair, np.nan) for pair in asked])
        new = [i for i, pair in enumerate(asked) if pair not in expected and pair not in asked[:i]]
        assert store.missing("t", *pairs(*asked)).tolist() == new
