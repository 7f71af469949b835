"""Ask a score store which of 100 million pairs it lacks, when it holds every other one.

    python scripts/bench_store.py --json runs/bench-store.json
    python scripts/bench_store.py --quick

Writes a store of synthetic pairs in a temporary folder (about 0.5 GB for 100 million pairs; --folder moves it), asks
in a process of its own so that the peak memory is the question's, and checks every row of the answer. The peak
contains the pairs asked for (16 bytes each) and the answer. There is no peer to compare with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from retrieval_distill.runtime import memory, stages
from retrieval_distill.scores.store import ScoreStore

TEACHER = "synthetic"
PAIRS, QUICK_PAIRS = 100_000_000, 5_000_000
PAIRS_PER_QUERY = 100
PAIRS_PER_SHARD = 1_000_000
PAIRS_PER_CHUNK = 1_000_000
SAMPLE = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=PAIRS, help="pairs asked for; every other one is stored")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PAIRS:,} pairs")
    parser.add_argument("--folder", type=Path, help="where the temporary store is made")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--question", type=Path, help=argparse.SUPPRESS)  # how the script calls itself
    args = parser.parse_args()
    if args.question:
        print(json.dumps(ask(args.question, args.pairs)))
        return
    pairs = QUICK_PAIRS if args.quick else args.pairs
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        start = time.monotonic()
        fill(ScoreStore(folder), pairs)
        written = time.monotonic() - start
        size = sum(path.stat().st_size for path in Path(folder).rglob("*.parquet"))
        command = [sys.executable, __file__, "--question", folder, "--pairs", str(pairs)]
        answer = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    rows = [
        ("write", f"{pairs // 2:,} pairs", f"{written:.1f} s", f"{size / 1e9:.2f} GB on disk"),
        (
            "missing",
            f"{pairs:,} pairs",
            f"{answer['seconds']:.1f} s",
            f"{answer['peak_memory_bytes'] / 1e9:.2f} GB peak",
        ),
        ("", f"{answer['missing']:,} missing", "all right", f"{answer['pairs_bytes'] / 1e9:.2f} GB are the pairs"),
    ]
    for row in rows:
        print("".join(cell.ljust(24) for cell in row).rstrip())
    if args.json:
        stages.write_json(args.json, report(pairs, written, answer))


def report(pairs: int, written: float, answer: dict) -> dict:
    from retrieval_distill.hardware import devices

    nobody = {"peer": None, "theirs": None, "ratio": None, "unit": "s"}
    name = f"{pairs / 1e6:g}M-pairs"
    return {
        "environment": devices.describe(),
        "comparisons": [
            {"name": f"store-write/{name}-half", "ours": round(written, 2), **nobody},
            {
                "name": f"store-missing/{name}",
                "ours": answer["seconds"],
                **nobody,
                "peak_memory_bytes": {"ours": answer["peak_memory_bytes"], "theirs": None},
            },
        ],
    }


def fill(store: ScoreStore, pairs: int) -> None:
    """Store the pairs of even number."""
    for start in range(0, pairs, 2 * PAIRS_PER_SHARD):
        numbers = np.arange(start, min(start + 2 * PAIRS_PER_SHARD, pairs), 2, dtype=np.uint64)
        store.add(TEACHER, mixed(numbers // PAIRS_PER_QUERY), mixed(numbers + pairs), score(numbers))


def ask(root: Path, pairs: int) -> dict:
    """Time the question and check its answer; the memory measured is that of this process while it asks."""
    queries, documents = np.empty((2, pairs), np.uint64)
    for start in range(0, pairs, PAIRS_PER_CHUNK):
        numbers = np.arange(start, min(start + PAIRS_PER_CHUNK, pairs), dtype=np.uint64)
        queries[start : start + len(numbers)] = mixed(numbers // PAIRS_PER_QUERY)
        documents[start : start + len(numbers)] = mixed(numbers + pairs)
    store = ScoreStore(root)
    memory.release()
    memory.reset_peak()
    start = time.monotonic()
    missing = store.missing(TEACHER, queries, documents)
    seconds, peak = time.monotonic() - start, memory.peak_bytes()
    check(store, missing, queries, documents)
    return {
        "seconds": round(seconds, 2),
        "peak_memory_bytes": peak,
        "missing": len(missing),
        "pairs_bytes": queries.nbytes + documents.nbytes,
    }


def check(store: ScoreStore, missing: np.ndarray, queries: np.ndarray, documents: np.ndarray) -> None:
    """Every odd number is missing and nothing else; a sample of the others has its own score."""
    if not np.array_equal(missing, np.arange(1, len(queries), 2)):
        raise SystemExit(f"wrong answer: {len(missing):,} rows, not the {len(queries) // 2:,} of odd number")
    numbers = np.random.default_rng(0).integers(0, len(queries), SAMPLE).astype(np.uint64)
    found = store.lookup(TEACHER, queries[numbers], documents[numbers])
    expected = np.where(numbers % 2 == 0, score(numbers), np.nan).astype(np.float32)
    if not np.array_equal(found, expected, equal_nan=True):
        raise SystemExit("wrong answer: a stored score is not the one that was stored")


def score(numbers: np.ndarray) -> np.ndarray:
    return (numbers % np.uint64(2003)).astype(np.float32) / 100 - 10


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Distinct numbers as distinct ones that look like hashes (the finishing steps of SplitMix64)."""
    values = numbers * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


if __name__ == "__main__":
    main()
