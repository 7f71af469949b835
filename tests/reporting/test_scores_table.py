"""The table of a store says what is in it."""

from __future__ import annotations

import numpy as np

from retrieval_distill.reporting import scores
from retrieval_distill.scores.store import ScoreStore


def test_an_empty_store(tmp_path):
    assert scores.show(ScoreStore(tmp_path / "none")) == f"{tmp_path / 'none'}: no teacher has scored anything yet"


def test_teachers_with_their_histogram_and_warnings(tmp_path):
    store = ScoreStore(tmp_path)
    store.describe("0123456789", {"kind": "cross-encoder", "model": "m/one", "max_length": 256, "dtype": "float32"})
    queries, documents = np.divmod(np.arange(2000), 20)
    shard = store.add("0123456789", queries, documents, np.linspace(-3.0, 5.0, 2000))
    store.add("bare", np.arange(5), np.arange(5), np.linspace(0.1, 0.9, 5))
    store.describe("unused", {"kind": "scores", "model": "file.parquet"})
    heading, first, spread, within, second, *rest = scores.show(store).splitlines()
    assert heading.split("  ")[0] == "teacher"
    assert first.split() == ["01234567", "cross-encoder", "m/one", "256", "float32", "2,000", "1", *scores.size(shard.stat().st_size).split()]  # fmt: skip
    assert spread == f"  -3.00 [{'█' * 20}] 5.00   mean 1, standard deviation 2.31"
    assert within.startswith("  100 queries, 20 documents; within a query (median): standard deviation 0.0231")
    assert second.split()[:7] == ["bare", "-", "-", "-", "-", "5", "1"]
    assert [line for line in rest if "warning: all scores lie between 0 and 1" in line]
    assert [line for line in rest if "warning: there is only one score per query" in line]
    assert rest[-2].split()[:7] == ["unused", "scores", "file.parquet", "-", "-", "0", "0"]
    assert rest[-1] == "  no scores yet"
    assert len(heading) >= len(first)


def test_the_histogram_shows_what_is_not_empty():
    assert scores.histogram([0, 1, 800, 400]) == " ▁█▄"
    assert scores.histogram([]) == ""


def test_sizes():
    assert [scores.size(n) for n in (0, 999, 1000, 12_345_678, 3 * 10**12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "12.3 MB",
        "3.0 TB",
    ]
