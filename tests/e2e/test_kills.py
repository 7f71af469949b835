"""Scoring survives twenty kills in a row: every pair asked for ends up in the store, scored once by the last run."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import numpy as np

from retrieval_distill.data.hashes import text_hashes
from retrieval_distill.data.run import Run
from retrieval_distill.scores.store import ScoreStore
from tests.programs import Program

KILLS = 20

SCORING = """
import sys, time
import numpy as np
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.teacher import scoring
from retrieval_distill.scores.store import ScoreStore

scoring.SECONDS_PER_COMMIT = 0.02
folder, run, store, log = sys.argv[1:]

class Slow:
    fingerprint, description = "slow", {"model": "slow"}

    def score(self, pairs):
        with open(log, "a", buffering=1) as asked:
            for start in range(0, len(pairs.positions), 7):
                batch = pairs.positions[start:start + 7]
                for position in batch:
                    asked.write("{} {}\\n".format(*pairs.ids(position)))
                time.sleep(0.004)
                yield batch, np.array([len(pairs.texts(p)[0]) - len(pairs.texts(p)[1]) for p in batch], np.float32)

data = beir.load(folder)
print("scoring", flush=True)
scored, counts = scoring.score(Run.load(run), data.queries, data.documents, Slow(), ScoreStore(store))
scored.save(run.replace("asked", "scored"))
print(counts["scored"], counts["stored"], flush=True)
"""


def asked_in(log: Path) -> int:
    return len(log.read_bytes().splitlines()) if log.exists() else 0


def wait_for(process: Program, log: Path, lines: int) -> None:
    """Until so many more pairs have been asked: a moment that a busy machine does not move."""
    seen = asked_in(log)
    while asked_in(log) < seen + lines and process.poll() is None:
        time.sleep(0.001)


def test_twenty_kills_at_random_moments(dataset, dataset_folder, tmp_path):
    asked = Run.from_columns(
        np.repeat(dataset.queries.ids, len(dataset.documents)),
        np.tile(dataset.documents.ids, len(dataset.queries)),
        np.zeros(len(dataset.queries) * len(dataset.documents)),
    )
    asked.save(tmp_path / "asked.parquet")
    command = ["-c", SCORING, dataset_folder, tmp_path / "asked.parquet", tmp_path / "store"]
    rng, committed = random.Random(5), []
    for _ in range(KILLS):
        process = Program(*command, tmp_path / "log")
        assert process.stdout.readline() == "scoring\n"
        wait_for(process, tmp_path / "log", rng.randrange(14 * 7))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        committed.append(sum(teacher["pairs"] for teacher in ScoreStore(tmp_path / "store").teachers()))
    assert committed == sorted(committed)
    assert 0 < committed[-1] < len(asked)
    last = Program(*command, tmp_path / "log2")
    scored, stored = map(int, last.communicate()[0].split()[1:])
    assert last.returncode == 0
    assert (scored, stored) == (len(asked) - committed[-1], committed[-1])
    again = [tuple(line.split()) for line in (tmp_path / "log2").read_text().splitlines()]
    assert len(again) == len(set(again)) == scored  # each missing pair once, no committed pair
    [teacher] = ScoreStore(tmp_path / "store").teachers()
    assert teacher["pairs"] == len(asked)
    result = Run.load(tmp_path / "scored.parquet")
    assert sorted(result.pairs) == sorted(asked.pairs)
    for query, document, score in result.frame.itertuples(index=False):
        assert score == len(dataset.queries[query]) - len(dataset.documents[document])
    everything = ScoreStore(tmp_path / "store").lookup(
        "slow",
        text_hashes([dataset.queries[query] for query in asked.frame["query_id"]]),
        text_hashes([dataset.documents[document] for document in asked.frame["doc_id"]]),
    )
    assert np.isfinite(everything).all()
