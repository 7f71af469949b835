"""Vectors survive kills shard by shard, follow a corpus that changes, and are refused when they were touched."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding import embed as embedding
from retrieval_distill.embedding.changes import match_rows
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.embedding.workers import Encoding
from retrieval_distill.errors import UserError
from retrieval_distill.student import encoder
from tests import programs
from tests.commands import command
from tests.index.conftest import corpus, vector_of

KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from retrieval_distill.data.formats import beir
from retrieval_distill.embedding import embed as embedding
from retrieval_distill.student import encoder  # imported before the forks, so that each starts at once

model, dataset, out, when = sys.argv[1:]
embedding.SHARD = 4
documents, rng, left, deaths = beir.load(dataset).documents, random.Random(7), [], 4

def dying(file, real=os.fsync):
    global calls
    calls -= 1
    if calls == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(pause)
    real(file)

for attempt in range(deaths + 1):
    by_clock, last = when == "at a random time", attempt == deaths
    calls, pause = 1 << 30 if last or by_clock else rng.randint(1, 4), 0.15 if by_clock and not last else 0
    if (child := os.fork()) == 0:
        os.fsync = dying
        counts = embedding.embed(model, documents, out, "float32", storage="int8")["counts"]
        print(json.dumps(counts), flush=True)
        os._exit(0)
    if by_clock and not last:
        time.sleep(rng.uniform(0, 0.4))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    left.append(sorted(path.name for path in Path(out + ".partial").glob("vectors-*")))
    assert os.WIFSIGNALED(status) != last, status
print(json.dumps(left[:-1]))
"""


def vectors_of(folder) -> np.ndarray:
    return np.concatenate(list(Embeddings.open(folder).shards()))


def by_id(folder) -> dict[str, list[float]]:
    opened = Embeddings.open(folder)
    return dict(zip(opened.ids, (row for shard in opened.shards() for row in shard.tolist()), strict=True))


@pytest.mark.parametrize("when", ["within a commit", "at a random time"])
def test_kills_cost_at_most_a_shard(encoders, dataset, dataset_folder, tmp_path, monkeypatch, when):
    arguments = [encoders["bert"], dataset_folder, str(tmp_path / "killed"), when]
    done = programs.run("-c", KILLED, *arguments)
    assert done.returncode == 0, done.stderr
    counts, left = map(json.loads, done.stdout.splitlines())
    assert all(set(earlier) <= set(later) for earlier, later in pairwise(left))
    assert len(left[-1]) < 15
    if when == "within a commit":
        assert left[-1]  # some shards were finished when it died for the last time
    assert counts["embedded"] == 60 - 4 * len(left[-1])
    monkeypatch.setattr(embedding, "SHARD", 4)
    embed(encoders["bert"], dataset.documents, tmp_path / "whole", "float32", storage="int8")
    killed, whole = (sorted((tmp_path / name).glob("vectors-*")) for name in ("killed", "whole"))
    assert [path.name for path in killed] == [path.name for path in whole]  # a shard's name is its checksum
    assert len(killed) == 15
    assert by_id(tmp_path / "killed") == by_id(tmp_path / "whole")
    assert not list(tmp_path.glob("*/.tmp-*"))


def test_embedding_again_is_skipped_and_other_weights_are_not(encoders, dataset, tmp_path):
    assert not embed(encoders["bert"], dataset.documents, tmp_path / "v", "float32")["skipped"]
    assert embed(encoders["bert"], dataset.documents, tmp_path / "v", "float32")["skipped"]
    again = embed(encoders["distilbert"], dataset.documents, tmp_path / "v", "float32")
    assert again["counts"]["embedded"] == 60


def test_a_shard_is_embedded_in_the_order_of_the_ids(encoders, monkeypatch, tmp_path):
    monkeypatch.setattr(embedding, "SHARD", 4)
    texts = [("graph " * n).strip() for n in (3, 20, 1, 9, 7, 30, 2)]
    documents = corpus({f"d{i}": text for i, text in enumerate(texts)})
    embed(encoders["roberta"], documents, tmp_path / "v", "float32")
    expected = encoder.load(encoders["roberta"]).encode_document(texts)
    np.testing.assert_allclose(vectors_of(tmp_path / "v"), expected, atol=1e-5)


def test_rows_by_id(fake_model, tmp_path):
    texts = {f"d{i}": f"text {i}" for i in range(11)}
    embed(fake_model[0], corpus(texts), tmp_path / "v")
    opened = Embeddings.open(tmp_path / "v")
    asked = ["d10", "d3", "d0", "d3", "d4"]
    np.testing.assert_array_equal(opened.take(asked), [vector_of(texts[id_]) for id_ in asked])
    assert [len(shard) for shard in opened.shards()] == [4, 4, 3]
    assert opened.ids_of(np.array([[2, -1], [10, 0]])).tolist() == [["d2", None], ["d10", "d0"]]
    with pytest.raises(KeyError):
        opened.take(["d11"])


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.integers(0, 30), st.integers(0, 25), max_size=20), min_size=2, max_size=3))
def test_a_changed_corpus_embeds_what_is_new_and_nothing_else(fake_model, tmp_path_factory, corpora):
    """Whatever changes: every document ends with its own text's vector, and no text is embedded that was there."""
    (model, asked), folder = fake_model, tmp_path_factory.mktemp("vectors") / "v"
    marks, had = [embed(model, corpus({}), folder)["fingerprint"]], Counter()
    for drawn in corpora:
        texts = {f"d{id_}": f"text {text}" for id_, text in drawn.items()}
        asked.clear()
        manifest, wanted = embed(model, corpus(texts), folder), Counter(texts.values())
        assert Counter(asked) == wanted - had
        assert by_id(folder) == {id_: vector_of(text).tolist() for id_, text in texts.items()}
        if not manifest["skipped"]:
            counts = {"new": wanted - had, "gone": had - wanted, "kept": wanted & had}
            assert {key: manifest["counts"][key] for key in counts} == {key: n.total() for key, n in counts.items()}
            assert manifest["fingerprint"] not in marks
        marks.append(manifest["fingerprint"])
        had = wanted


def test_untouched_shards_are_the_same_files(fake_model, tmp_path):
    texts = {f"d{i}": f"text {i}" for i in range(12)}
    embed(fake_model[0], corpus(texts), tmp_path / "v")
    before = [shard.path.stat().st_ino for shard in Embeddings.open(tmp_path / "v").files]
    del texts["d5"]
    texts["new"] = "another text"
    assert embed(fake_model[0], corpus(texts), tmp_path / "v")["counts"]["kept"] == 11
    after = Embeddings.open(tmp_path / "v").files
    assert [shard.rows for shard in after] == [4, 3, 4, 1]
    assert [after[i].path.stat().st_ino for i in (0, 2)] == [before[0], before[2]]
    assert embed(fake_model[0], corpus(texts), tmp_path / "v")["skipped"]


@given(st.lists(st.integers(0, 5)), st.lists(st.integers(0, 5)))
def test_rows_are_taken_in_turn(have, wanted):
    waiting = {value: [place for place, other in enumerate(wanted) if other == value] for value in range(6)}
    expected = [waiting[value].pop(0) if waiting[value] else -1 for value in have]
    assert match_rows(np.array(have, np.uint64), np.array(wanted, np.uint64)).tolist() == expected


def test_a_missing_and_an_altered_shard_are_named(fake_model, tmp_path):
    embed(fake_model[0], corpus({f"d{i}": f"text {i}" for i in range(9)}), tmp_path / "v")
    _, second, third = sorted((tmp_path / "v").glob("vectors-*"))
    data = bytearray(second.read_bytes())
    data[-3] ^= 1
    second.write_bytes(data)
    opened = Embeddings.open(tmp_path / "v")
    np.testing.assert_array_equal(opened.take(["d0", "d8"]), [vector_of("text 0"), vector_of("text 8")])
    with pytest.raises(UserError, match=rf"{second.name}: this shard was altered"):
        opened.take(["d4"])
    third.unlink()
    with pytest.raises(UserError, match=rf"{third.name}: this shard is missing"):
        Embeddings.open(tmp_path / "v")


def test_not_a_number_is_refused_with_the_document(monkeypatch, fake_model, tmp_path):
    def encode(texts, done):
        yield np.arange(len(texts)), np.array([[np.nan if "5" in text else 1.0, 0.0] for text in texts], np.float32)

    monkeypatch.setattr(Encoding, "encoders", lambda self: [encode])
    with pytest.raises(UserError, match=r"NaN or infinite vectors for 1 of 4 texts, first for document 'd5'"):
        embed(fake_model[0], corpus({f"d{i}": f"text {i}" for i in range(9)}), tmp_path / "v")


def test_a_full_disk_keeps_the_finished_shards(monkeypatch, fake_model, tmp_path):
    documents = corpus({f"d{i}": f"text {i}" for i in range(20)})
    with monkeypatch.context() as patch:
        real = os.fsync

        def full(file):
            if len(list((tmp_path / "v.partial").glob("vectors-*"))) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(file)

        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"v: the disk is full.*every finished one is kept"):
            embed(fake_model[0], documents, tmp_path / "v")
    assert embed(fake_model[0], documents, tmp_path / "v")["counts"]["embedded"] == 20 - 2 * 4


def test_a_disk_that_is_full(small_disk, fake_model):
    documents = corpus({f"d{i}": f"text {i}" for i in range(100)})
    with pytest.raises(UserError, match=r"v: the disk is full.*every finished one is kept"):
        embed(fake_model[0], documents, small_disk / "v")
    finished = len(list((small_disk / "v.partial").glob("vectors-*")))
    assert 0 < finished < 25
    assert not list(small_disk.glob("*/.tmp-*"))
    subprocess.run(["mount", "-o", "remount,size=1m", str(small_disk)], check=True)
    assert embed(fake_model[0], documents, small_disk / "v")["counts"]["embedded"] == 100 - 4 * finished
    assert by_id(small_disk / "v") == {f"d{i}": vector_of(f"text {i}").tolist() for i in range(100)}


def test_two_embedders_on_one_folder(fake_model, tmp_path):
    holding = (
        "import sys, time; from retrieval_distill.runtime.lock import exclusive\n"
        "with exclusive(sys.argv[1]):\n    print('held', flush=True); time.sleep(60)"
    )
    documents = corpus({"d0": "text"})
    other = programs.Program("-c", holding, tmp_path / "v")
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UserError, match=rf"v: process {other.pid} on .* is writing there"):
        embed(fake_model[0], documents, tmp_path / "v")
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / ".v.lock").is_file()  # left behind by a killed process, and no obstacle
    assert embed(fake_model[0], documents, tmp_path / "v")["counts"]["new"] == 1
    assert not (tmp_path / ".v.lock").exists()


def test_an_empty_corpus_and_one_that_becomes_empty(fake_model, tmp_path):
    assert embed(fake_model[0], Texts.from_records([]), tmp_path / "v")["counts"]["documents"] == 0
    assert list(Embeddings.open(tmp_path / "v").shards()) == []
    embed(fake_model[0], corpus({"d0": "text"}), tmp_path / "v")
    assert embed(fake_model[0], Texts.from_records([]), tmp_path / "v")["counts"]["gone"] == 1
    assert Embeddings.open(tmp_path / "v").ids == []


def test_the_command_says_what_changed(fake_model, tmp_path):
    texts = {f"d{i}": f"text {i}" for i in range(10)}

    def embedded(*options, **others) -> str:
        lines = (json.dumps({"id": id_, "text": text}) for id_, text in texts.items())
        (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
        source = "--dataset", tmp_path / "corpus.jsonl", "--cache", tmp_path / "cache"
        return command("embed", "--model", fake_model[0], *source, "--out", tmp_path / "v", *options, **others)

    assert "10 documents, 12 dimensions as int8; 10 new, 0 gone, 0 kept" in embedded("--storage", "int8")
    texts |= {"d3": "altered", "new": "another"}
    del texts["d7"]
    assert "10 documents, 12 dimensions as int8; 2 new, 2 gone, 8 kept" in embedded("--storage", "int8")
    assert "10 documents, 12 dimensions as int8; embedded before" in embedded("--storage", "int8")
    assert "x.parquet: 10 vectors" in command("export", tmp_path / "v", "--out", tmp_path / "x.parquet")
    assert "storage 'int4' is unknown" in embedded("--storage", "int4", code=2)


@pytest.mark.parametrize("storage", ["float32", "int8", "binary"])
def test_not_a_number_is_refused_however_it_is_stored(monkeypatch, fake_model, tmp_path, storage):
    monkeypatch.setattr(
        Encoding, "encoders",
        lambda self: [lambda texts, done: [(np.arange(len(texts)), np.full((len(texts), 3), np.nan, np.float32))]],
    )  # fmt: skip
    with pytest.raises(UserError, match=r"model '.*fake-model' gives NaN or infinite vectors .* document 'd0'"):
        embed(fake_model[0], corpus({f"d{i}": f"text {i}" for i in range(4)}), tmp_path / "v", storage=storage)


def test_vectors_of_zeros_are_named(monkeypatch, fake_model, tmp_path, caplog):
    def encode(texts, done):
        yield np.arange(len(texts)), np.array([[0.0 if "odd" in text else 1.0, 0.0] for text in texts], np.float32)

    monkeypatch.setattr(Encoding, "encoders", lambda self: [encode])
    documents = corpus({f"d{i}": "odd" if i % 2 else "even" for i in range(4)})
    embed(fake_model[0], documents, tmp_path / "v")
    assert "gives zero vectors for 2 of 4 texts, such as document 'd1', 'd3'" in caplog.text


def test_queries_without_a_vector_are_named(tokenizers_by_kind, tmp_path, caplog):
    module = StaticEmbedding(tokenizers_by_kind["bert"], embedding_dim=8)
    model = str(tmp_path / "static")
    SentenceTransformer(modules=[module], device="cpu").save_pretrained(model)
    manifest = embed(model, corpus({"d": "path file"}), tmp_path / "v")
    assert manifest["counts"]["truncated"]["max_length"] is None
    vectors = embedding.embed_queries(model, corpus({"q0": "path", "q1": ""}), manifest, tmp_path / "v")
    assert vectors.any(axis=1).tolist() == [True, False]
    assert "gives zero vectors for 1 of 2 texts, such as query 'q1'" in caplog.text


def test_texts_that_are_cut_are_counted(encoders, tmp_path, caplog):
    texts = {f"d{i}": "path file " * (1 if i % 4 else 40) for i in range(20)}
    with caplog.at_level("INFO"):
        counts = embed(encoders["bert"], corpus(texts), tmp_path / "v", max_length=32)["counts"]
    assert counts["truncated"] == {"share": 0.25, "sample": 20, "max_length": 32}
    assert "5 of 20 documents are longer than 32 tokens and are truncated" in caplog.text
    more = corpus({**texts, "short": "path"})
    assert embed(encoders["bert"], more, tmp_path / "v", max_length=32)["counts"]["truncated"]["sample"] == 21
