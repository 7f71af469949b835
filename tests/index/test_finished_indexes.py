"""An index that was built, or chosen, is not built or looked for again after a kill: only the commit is repeated."""

from __future__ import annotations

import numpy as np
import pytest

from retrieval_distill.config import IntentConfig
from retrieval_distill.index import build, tune
from retrieval_distill.index.faiss_index import Index, index
from tests import programs
from tests.index.stored import clustered, store

DRIVER = """
import sys
from pathlib import Path
from retrieval_distill.index import build, faiss_index
from tests import kills

vectors, out = sys.argv[1], Path(sys.argv[2])
real = build.write_faiss

def written(*args):
    real(*args)
    with log.open("a") as lines:
        lines.write("built\\n")

build.write_faiss = written

def work():
    faiss_index.index(vectors, folder, "sq8", rescore=4)

folder, log = out / "whole", out / "whole.log"
acts = kills.attempt(work)
built, whole, moments = log.read_text(), kills.files(folder), 0
assert set(whole) == {"index.faiss", "ids.parquet", "vectors.npy"}
for moment in range(acts, 0, -1):
    folder, log = out / f"at-{moment}", out / f"at-{moment}.log"
    assert kills.attempt(work, moment) is None
    marks = [out / f"at-{moment}.partial" / name for name in ("built.json", "manifest.json")]
    finished = any(mark.exists() for mark in [*marks, folder / "manifest.json"])
    kills.attempt(work)
    assert finished <= (log.read_text() == built), moment
    assert kills.files(folder) == whole, moment
    if not finished:
        break
    moments += 1
assert moments > 3, moments
"""


def test_killed_after_the_build_it_is_not_built_again(tmp_path):
    store(tmp_path / "vectors", clustered(300))
    done = programs.run("-c", DRIVER, tmp_path / "vectors", tmp_path)
    assert done.returncode == 0, done.stderr


def test_killed_after_the_choice_nothing_is_tried_again(tmp_path, monkeypatch):
    store(tmp_path / "vectors", clustered(600))
    intent, kinds = IntentConfig(recall=0.5, queries=20, depth=5), ("flat", "sq8")
    monkeypatch.setattr(tune, "KINDS", {name: tune.KINDS[name] for name in kinds})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tune.shutil, "copyfile", interrupted)
        tune.auto(tmp_path / "vectors", tmp_path / "index", intent)
    with monkeypatch.context() as patch:
        patch.setattr(tune, "Trials", interrupted)
        tune.auto(tmp_path / "vectors", tmp_path / "index", intent)
    Index.open(tmp_path / "index").verify()
    assert not (tmp_path / "index" / "candidates").exists()
    (tmp_path / "index").rename(tmp_path / "again.partial")  # a report without the index that it tells of
    (tmp_path / "again.partial" / "manifest.json").unlink()
    tune.auto(tmp_path / "vectors", tmp_path / "again", intent)
    Index.open(tmp_path / "again").verify()


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_an_index_that_was_damaged_meanwhile_is_built_again(tmp_path, monkeypatch):
    """Cut off before its ids were written, and altered before the second attempt, as a power cut may."""
    store(tmp_path / "vectors", clustered(300))
    index(tmp_path / "vectors", tmp_path / "whole", "sq8")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(build.pq, "write_table", interrupted)
        index(tmp_path / "vectors", tmp_path / "index", "sq8")
    written = tmp_path / "index.partial" / "index.faiss"
    written.write_bytes(written.read_bytes()[:-9])
    index(tmp_path / "vectors", tmp_path / "index", "sq8")
    Index.open(tmp_path / "index").verify()
    files = [tmp_path / name / "index.faiss" for name in ("whole", "index")]
    assert np.array_equal(*(np.fromfile(file, np.uint8) for file in files))
