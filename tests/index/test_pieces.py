"""A killed or stopped ``embed`` loses seconds, not a shard; where it was cut shows nowhere in the result."""

from __future__ import annotations

import json
import signal
import threading
import time

import numpy as np
import pytest

from retrieval_distill.embedding import embed as embedding
from retrieval_distill.embedding import shards, workers
from retrieval_distill.embedding.embed import embed
from retrieval_distill.embedding.pieces import Pieces
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.embedding.workers import Encoding, ShardWriter
from retrieval_distill.student import encoder
from tests import programs
from tests.index.conftest import corpus, vector_of
from tests.kills import files

DRIVER = """
import random, sys
from pathlib import Path
import numpy as np
import sentence_transformers.util.quantization  # slow, and so once for all children
from retrieval_distill.embedding import embed as embedding, workers
from tests.index.conftest import corpus, vector_of
from tests.kills import attempt, files

model, out = sys.argv[1], Path(sys.argv[2])
texts = corpus({f"d{i}": f"text {i}" for i in range(10)})
embedding.SHARD = 4

def encode(texts, done):
    for row in np.flatnonzero(~done):
        with log.open("a") as asked:
            asked.write(f"{texts[row]}\\n")
        yield np.array([row]), vector_of(texts[row])[None]

workers.Encoding.encoders = lambda self: [encode]
workers.Encoding.cut = lambda self, texts: {"share": 0.0, "sample": 0, "max_length": None}

def work():
    embedding.embed(model, texts, folder, storage="float16")

folder, log = out / "whole", out / "whole.log"
attempt(work)
whole = files(folder)
assert len([name for name in whole if name.startswith("vectors-")]) == 3
workers.SECONDS_PER_COMMIT = 0.0
folder, log = out / "cut", out / "cut.log"
acts = attempt(work)
assert files(folder) == whole
for moment in random.Random(2).sample(range(1, acts + 1), 6):
    folder, log = out / f"at-{moment}", out / f"at-{moment}.log"
    assert attempt(work, moment) is None
    attempt(work)
    assert files(folder) == whole, moment
    assert len(log.read_text().splitlines()) <= 12, moment  # two: one for the storage, and one that was on its way
folder, log, kills = out / "often", out / "often.log", 0
while attempt(work, 9 + 5 * kills) is None:
    kills += 1
assert files(folder) == whole and kills > 2, kills
"""


def test_killed_within_shards_it_ends_the_same(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    done = programs.run("-c", DRIVER, tmp_path / "model", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stopped_within_a_shard_it_ends_the_same_and_says_what_it_keeps(
    encoders, dataset, tmp_path, monkeypatch, caplog, dtype
):
    monkeypatch.setitem(encoder.TOKENS_AT_ONCE, "cpu", 128)
    embed(encoders["bert"], dataset.documents, tmp_path / "whole", dtype)
    real, left = encoder.forward, iter(range(4))

    def forward(*args, **options):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(encoder, "forward", forward)
        embed(encoders["bert"], dataset.documents, tmp_path / "stopped", dtype)
    kept = Pieces(tmp_path / "stopped.partial", 0).count()
    assert 0 < kept < 60
    assert (
        f"embedding documents: stopped; {kept} of 60 documents are kept in {tmp_path / 'stopped.partial'}"
        in caplog.text
    )
    assert embed(encoders["bert"], dataset.documents, tmp_path / "stopped", dtype)["counts"]["embedded"] == 60 - kept
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_workers_in_threads_stop_too(monkeypatch, tmp_path):
    """What each of two is at is kept, though neither had come to the end of its shard when the user stopped it."""
    begun, go_on = threading.Barrier(3), threading.Event()

    def encode(texts, done):
        for row in range(len(texts)):
            yield np.array([row]), vector_of(texts[row])[None]
            if row == 4:
                begun.wait(10)
                go_on.wait(10)

    maker = ShardWriter(Encoding("m", "float32", None, "document"), Storage("float32", 12), tmp_path)
    texts = corpus({f"d{i}": f"text {i}" for i in range(100)})

    def items():
        yield from enumerate([texts, texts])
        begun.wait(10)
        threading.Timer(0.1, go_on.set).start()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(workers.make_shards(maker, [encode, encode], items(), lambda rows: None))
    for number in (0, 1):
        assert 5 <= Pieces(tmp_path, number).count() < 100
    assert shards.recover(tmp_path) == {}


SLOW = """
import signal, sys, time
import numpy as np
from retrieval_distill import cli
from retrieval_distill.embedding.workers import Encoding
from tests.index.conftest import vector_of

def encode(texts, done):
    for row in np.flatnonzero(~done):
        time.sleep(0.0 if texts[row] == "" or len(texts) == 1 else 0.02)
        yield np.array([row]), vector_of(texts[row])[None]

Encoding.encoders = lambda self: [encode]
Encoding.cut = lambda self, texts: {"share": 0.0, "sample": 0, "max_length": None}
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what runs in its background deaf to Ctrl-C
cli.main()
"""


def test_ctrl_c_ends_the_program_with_a_word_on_what_was_kept(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    lines = [json.dumps({"id": f"d{i}", "text": f"text {i}"}) for i in range(500)]
    (tmp_path / "docs.jsonl").write_text("\n".join(lines))
    options = ["--model", tmp_path / "model", "--dataset", tmp_path / "docs.jsonl", "--out", tmp_path / "v"]
    process = programs.Program("-c", SLOW, "embed", *options, "--cache", tmp_path / "cache")
    while not (tmp_path / "v.partial" / "storage.json").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    kept = Pieces(tmp_path / "v.partial", 0).count()
    assert 0 < kept < 500
    assert f"stopped; {kept} of 500 documents are kept in" in said
    assert "the same command continues" in said and "Traceback" not in said


def test_a_shard_that_is_whole_at_once_is_written_once(fake_model, tmp_path, monkeypatch):
    """On a fast machine nothing is written twice."""
    monkeypatch.setattr(embedding, "SHARD", 8)
    kept = []
    monkeypatch.setattr(Pieces, "keep", lambda self, part: kept.append(part))
    embed(fake_model[0], corpus({f"d{i}": f"text {i}" for i in range(20)}), tmp_path / "v")
    assert kept == []
