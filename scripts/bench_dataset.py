"""Load a corpus of the size of MS MARCO's (8.8 million synthetic passages) and look passages up in it.

    python scripts/bench_dataset.py --json runs/bench-dataset.json
    python scripts/bench_dataset.py --quick

Writes a BEIR corpus in a temporary folder (about 3.5 GB, and as much again for the memory map; --folder moves it), then
loads it twice, each time in a process of its own: first from the JSON lines, then from the map that the first time left.
The judgement is checked against the index of ids in both. "loading" is the peak of the process's resident memory while
it loads; "own" is the peak, lookups included, of what is its own: pages of the map that lookups touched are the system's
cache, which it drops when it needs room. Every answer is checked.
There is no peer to compare with.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from retrieval_distill.data.dataset_loader import load
from retrieval_distill.runtime import memory, stages

PASSAGES, QUICK_PASSAGES = 8_800_000, 200_000
LOOKED_UP = 100_000
ONE_BY_ONE = 2_000
STATUS = Path("/proc/self/status")
WORDS = "distilled student teacher passage query index vector margin batch shard token score rank corpus".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--passages", type=int, default=PASSAGES)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PASSAGES:,} passages")
    parser.add_argument("--folder", type=Path, help="where the temporary corpus is made")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)  # how the script calls itself
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measured(args.measure, args.passages)))
        return
    passages = QUICK_PASSAGES if args.quick else args.passages
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        write(Path(folder), passages)
        size = (Path(folder) / "corpus.jsonl").stat().st_size
        command = [sys.executable, __file__, "--measure", folder, "--passages", str(passages)]
        runs = {
            name: json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            for name in ("from-json-lines", "from-map")
        }
    print(f"{passages:,} passages, {size / 1e9:.2f} GB of JSON lines")
    for name, found in runs.items():
        print(f"{name:<16}load {found['load']:.1f} s   "
              f"take {LOOKED_UP:,} {found['take']:.2f} s   one by one {found['one'] * 1e6:.0f} us   "
              f"peak loading {found['loading_peak_bytes'] / 1e9:.2f} GB, own {found['peak_memory_bytes'] / 1e9:.2f} GB")  # fmt: skip
    if args.json:
        stages.write_json(args.json, report(passages, runs))


def report(passages: int, runs: dict[str, dict]) -> dict:
    from retrieval_distill.hardware import devices

    nobody = {"peer": None, "theirs": None, "ratio": None, "unit": "s"}
    return {
        "environment": devices.describe(),
        "comparisons": [
            {
                "name": f"dataset-{act}-{name}/{passages / 1e6:g}M-passages",
                "ours": found[act],
                **nobody,
                "peak_memory_bytes": {"ours": found["peak_memory_bytes"], "theirs": None},
            }
            for name, found in runs.items()
            for act in ("load", "take", "one")
        ],
    }


def write(folder: Path, passages: int) -> None:
    """A corpus of passages of about 56 words, one query and one judgement."""
    rng = np.random.default_rng(0)
    with (folder / "corpus.jsonl").open("w") as out:
        for start in range(0, passages, 10_000):
            drawn = rng.integers(0, len(WORDS), (10_000, 55))
            for number, row in zip(range(start, min(start + 10_000, passages)), drawn, strict=False):
                text = " ".join([WORDS[word] for word in row])
                out.write(f'{{"_id": "{number}", "title": "", "text": "{text} {number}"}}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "which one"}\n')
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\t{passages - 1}\t1\n")


def measured(folder: Path, passages: int) -> dict[str, float]:
    """Seconds of loading and looking up, and the process's peak memory."""
    own = own_peak()
    loading, dataset = timed(lambda: load(str(folder), folder / "cache"))
    loading_peak = memory.peak_bytes()
    documents = dataset.documents
    row = documents.rows[str(passages // 2)]
    ids = [str(number) for number in np.random.default_rng(1).integers(0, passages, LOOKED_UP)]
    taking, texts = timed(lambda: documents.take(ids))
    one, there = timed(lambda: [id_ in documents for id_ in ids[:ONE_BY_ONE]])
    right = len(documents) == passages and row == passages // 2 and all(there) and "none" not in documents
    if not right or any(text.rpartition(" ")[2] != id_ for text, id_ in zip(texts, ids, strict=True)):
        raise SystemExit("wrong answer: a passage is not where it was put")
    seconds = {"load": loading, "take": taking, "one": one / ONE_BY_ONE}
    return {**seconds, "loading_peak_bytes": loading_peak, "peak_memory_bytes": own()}


def own_peak() -> Callable[[], int]:
    """Watches the memory that is the process's own from now on; gives back how its peak is asked for (Linux)."""
    seen = [0]

    def watch() -> None:
        while True:
            seen[0] = max(seen[0], int(STATUS.read_text().split("RssAnon:")[1].split()[0]) * 1024)
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    return lambda: seen[0]


def timed(work: Callable) -> tuple[float, object]:
    start = time.monotonic()
    found = work()
    return time.monotonic() - start, found


if __name__ == "__main__":
    main()
