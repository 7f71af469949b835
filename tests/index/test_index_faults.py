"""What goes wrong with an index: each is refused in words, and none is answered from."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.index import build
from retrieval_distill.index import index as opening
from retrieval_distill.index.faiss_index import Index, index
from retrieval_distill.runtime import stages
from tests import programs
from tests.index.stored import clustered, store

VECTORS = clustered(600)


@pytest.fixture
def vectors(tmp_path):
    return store(tmp_path / "vectors", VECTORS)


def test_queries_of_another_length_are_refused(vectors, tmp_path):
    index(vectors, tmp_path / "index")
    with pytest.raises(UserError, match="documents' vectors have 32 dimensions, the queries' 16"):
        Index.open(tmp_path / "index").search(VECTORS[:2, :16], 5)
    index(vectors, tmp_path / "cut", dimensions=16)
    with pytest.raises(UserError, match="have 32 dimensions, the queries' 16"):
        Index.open(tmp_path / "cut").search(VECTORS[:2, :16], 5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_cannot_be_compared_are_refused(vectors, tmp_path, bad):
    index(vectors, tmp_path / "index")
    asked = VECTORS[:3].copy()
    asked[2, 5] = bad
    with pytest.raises(UserError, match="vector of query 2 holds NaN"):
        Index.open(tmp_path / "index").search(asked, 5)
    broken = VECTORS.copy()
    broken[417, 3] = bad
    store(tmp_path / "broken", broken)
    with pytest.raises(UserError, match="vector of row 417 holds NaN"):
        index(tmp_path / "broken", tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("name", ["index.faiss", "ids.parquet", "vectors.npy"])
@pytest.mark.parametrize("fault", ["missing", "shorter", "altered"])
def test_a_file_that_is_not_as_it_was_written_is_refused(vectors, tmp_path, name, fault):
    index(vectors, tmp_path / "index", "binary")
    path = tmp_path / "index" / name
    data = bytearray(path.read_bytes())
    if fault == "missing":
        path.unlink()
    elif fault == "shorter":
        path.write_bytes(data[:-1])
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    with pytest.raises(UserError, match=f"{name}.*(missing|altered); build the index again"):
        Index.open(tmp_path / "index")


def test_a_large_index_is_checked_when_asked(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "HASHED_AT_OPEN", 0)
    index(vectors, tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    opened.verify()
    path = tmp_path / "index" / "index.faiss"
    data = bytearray(path.read_bytes())
    data[-7] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="altered"):
        Index.open(tmp_path / "index").verify()


def test_what_is_no_index_is_refused(vectors, tmp_path):
    with pytest.raises(UserError, match="no index there"):
        Index.open(vectors)
    (tmp_path / "index.faiss").write_bytes(b"IxFI" + bytes(9))
    with pytest.raises(UserError, match="FAISS cannot read it"):
        build.read_faiss(tmp_path / "index.faiss", binary=False)


def test_a_full_disk_is_said_and_the_index_before_stays(vectors, tmp_path):
    """``/dev/full`` takes nothing, as a full disk does."""
    index(vectors, tmp_path / "index")
    before = stages.read_manifest(tmp_path / "index")
    partial = tmp_path / "index.partial"
    inputs = {**before["inputs"], "kind": "sq8"}
    partial.mkdir()
    (partial / ".fingerprint").write_text(stages.fingerprint({"stage": "index", **inputs}))
    (partial / "index.faiss").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"could not be written.*No space left.*free some disk space"):
        index(vectors, tmp_path / "index", "sq8")
    assert stages.read_manifest(tmp_path / "index") == before
    Index.open(tmp_path / "index").verify()
    (partial / "index.faiss").unlink()
    index(vectors, tmp_path / "index", "sq8")
    assert Index.open(tmp_path / "index").manifest["inputs"]["kind"] == "sq8"


def test_too_little_room_is_said_before_the_work(vectors, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(build.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(UserError, match=r"needs about 76.8 kB, but the disk has only 1.0 kB free"):
        index(vectors, tmp_path / "index")


def test_a_reader_sees_the_old_index_or_the_new_one(tmp_path):
    """Two indexes take turns in one folder while it is opened and asked; every answer is one of theirs."""
    for name, count in (("one", 300), ("two", 600)):
        store(tmp_path / name, VECTORS[:count], [f"{name}-{row}" for row in range(count)])
    index(tmp_path / "one", tmp_path / "index", "binary")
    stop = threading.Event()

    def write():
        for turn in range(1000):
            if stop.is_set():
                return
            index(tmp_path / ("two", "one")[turn % 2], tmp_path / "index", "binary")

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    try:
        for _ in range(2000):
            opened = Index.open(tmp_path / "index")
            name = opened.ids_of(np.array([0]))[0].split("-")[0]
            assert opened.documents == {"one": 300, "two": 600}[name]
            assert opened.search(VECTORS[:1], 1)[1].tolist() == [[f"{name}-0"]]
            seen.add(opened.documents)
            if len(seen) == 2:
                break
    finally:
        stop.set()
        writer.join()
    assert seen == {300, 600}


def test_an_opened_index_outlives_its_replacement(vectors, tmp_path):
    index(vectors, tmp_path / "index", "binary")
    opened = Index.open(tmp_path / "index")
    before = opened.search(VECTORS[:5], 5)
    index(vectors, tmp_path / "index", "flat")
    after = opened.search(VECTORS[:5], 5)
    np.testing.assert_array_equal(before[1], after[1])
    assert Index.open(tmp_path / "index").manifest["inputs"]["kind"] == "flat"


KILLED = """
import os, signal, sys
from retrieval_distill.index import build
from retrieval_distill.index import faiss_index
real = build.write_faiss
def dying(index, path, kind):
    real(index, path, kind)
    os.kill(os.getpid(), signal.SIGKILL)
build.write_faiss = dying
faiss_index.index(sys.argv[1], sys.argv[2], "sq8")
"""


def test_a_killed_build_leaves_the_old_index_and_can_be_repeated(vectors, tmp_path):
    index(vectors, tmp_path / "index", "flat")
    assert programs.run("-c", KILLED, vectors, tmp_path / "index").returncode == -9
    assert Index.open(tmp_path / "index").manifest["inputs"]["kind"] == "flat"
    index(vectors, tmp_path / "index", "sq8")
    assert Index.open(tmp_path / "index").manifest["inputs"]["kind"] == "sq8"
    assert not (tmp_path / "index.partial").exists()
