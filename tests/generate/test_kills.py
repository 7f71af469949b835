"""A killed ``generate`` loses no query, pays for none twice, and what is kept as finished is whole, at any moment."""

from __future__ import annotations

import json
import threading
from collections import Counter

import pytest

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.generate import blocks
from retrieval_distill.generate.query_generator import Query
from tests import programs

DRIVER = """
import json, random, sys
from pathlib import Path
from retrieval_distill import api
from retrieval_distill.data.formats import beir
from retrieval_distill.generate import blocks, ways
from retrieval_distill.generate.query_generator import Query
from tests.kills import attempt, files

corpus, out = beir.load(sys.argv[1]), Path(sys.argv[2])
blocks.SECONDS_PER_COMMIT, blocks.BLOCK = 0, 5

class Paid:
    def make(self, documents, counts, done):
        for row, (id_, title, text) in enumerate(documents):
            if not done[row]:
                with log.open("a") as asked:
                    asked.write(id_ + "\\n")
                yield {row: [Query(f"{title} {n} of {text[:30]}") for n in range(counts[row])]}

ways._WAYS["llm"] = lambda *_: Paid()

def generate():
    api.generate(corpus, out=folder, ways={"llm": 1.5, "titles": 1}, llm={"model": "m", "endpoint": "http://x"})

def asked():
    return log.read_text().split() if log.exists() else []

folder, log = out / "whole", out / "whole.log"
acts, every = attempt(generate), sorted(corpus.documents.ids)
assert sorted(asked()) == every
whole = files(folder)
for moment in sorted(random.Random(4).sample(range(1, acts + 1), 12)):
    folder, log = out / f"at-{moment}", out / f"at-{moment}.log"
    assert attempt(generate, moment) is None, moment
    assert attempt(generate) is not None, moment
    assert files(folder) == whole, moment
    assert len(asked()) - len(every) <= 1, moment  # the one whose answer was on its way to the disk
folder, log, kills = out / "often", out / "often.log", 0
rng = random.Random(5)
for _ in range(12):
    kills += attempt(generate, rng.randint(4, 30)) is None
assert attempt(generate) is not None
assert files(folder) == whole and kills > 3, kills
assert len(asked()) - len(every) <= kills
print(json.dumps([acts, kills]))
"""


def test_killed_at_any_act_it_ends_the_same_and_pays_nothing_twice(corpus, tmp_path):
    few = Dataset("few", corpus.documents.select(corpus.documents.ids[:12]), corpus.queries)
    beir.save(few, tmp_path / "corpus")
    done = programs.run("-c", DRIVER, tmp_path / "corpus", tmp_path)
    assert done.returncode == 0, done.stderr
    acts, kills = json.loads(done.stdout)
    assert acts > 100 and kills > 3


class Slow:
    """A way whose answers differ from attempt to attempt, as a language model's do."""

    def __init__(self, name: str, turn: threading.Barrier) -> None:
        self.name, self.turn = name, turn

    def make(self, documents, counts, done):
        for row in range(len(documents)):
            self.turn.wait(10)
            if not done[row]:
                yield {row: [Query(f"{self.name} {number}") for number in range(1 + (self.name == "two"))]}


def test_two_attempts_in_one_folder_lose_and_double_nothing(corpus, tmp_path, monkeypatch):
    """They answer in step, each for every document; each document's queries are those of one of them."""
    monkeypatch.setattr(blocks, "SECONDS_PER_COMMIT", 0.0)
    turn = threading.Barrier(2)
    made = {}

    def work(name: str) -> None:
        made[name] = blocks.generate_blocks("llm", Slow(name, turn), corpus.documents, 2, 7, tmp_path)

    threads = [threading.Thread(target=work, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    again = blocks.generate_blocks("llm", Slow("three", threading.Barrier(1)), corpus.documents, 2, 7, tmp_path)
    assert again["doc_id"].drop_duplicates().tolist() == corpus.documents.ids
    for _, found in again.groupby("doc_id"):
        assert found["query"].tolist() in (["one 0"], ["two 0", "two 1"])
    assert set(made) == {"one", "two"}


@pytest.mark.parametrize("gap", [0, 1, 4])
def test_a_part_that_is_gone_is_made_again_and_no_other(corpus, tmp_path, monkeypatch, gap):
    monkeypatch.setattr(blocks, "SECONDS_PER_COMMIT", 0.0)
    asked = Counter()

    class Paid:
        def make(self, documents, counts, done):
            for row, (id_, _, _) in enumerate(documents):
                if not done[row]:
                    asked[id_] += 1
                    yield {row: [Query(f"about {id_}")]}

    whole = blocks.generate_blocks("llm", Paid(), corpus.documents, 1, 7, tmp_path)
    sorted(tmp_path.glob("llm-*.parquet"))[gap].unlink()
    assert blocks.generate_blocks("llm", Paid(), corpus.documents, 1, 7, tmp_path).equals(whole)
    assert sum(asked.values()) == 41 and len(asked) == 40


def test_ctrl_c_keeps_what_was_answered_and_says_so(corpus, tmp_path, caplog):
    asked = []

    class Paid:
        def make(self, documents, counts, done):
            for row, (id_, _, _) in enumerate(documents):
                if not done[row]:
                    if len(asked) == 5:
                        raise KeyboardInterrupt
                    asked.append(id_)
                    yield {row: [Query(f"about {id_}")]}

    with pytest.raises(KeyboardInterrupt):
        blocks.generate_blocks("llm", Paid(), corpus.documents, 1, 7, tmp_path)
    assert f"generating queries (llm): stopped; 5 of 40 documents are kept in {tmp_path}" in caplog.text
    asked.append("counts no more")
    assert len(blocks.generate_blocks("llm", Paid(), corpus.documents, 1, 7, tmp_path)) == 40
    assert len(set(asked)) == len(asked) == 41
