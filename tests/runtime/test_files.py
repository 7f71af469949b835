"""A file is the old one or the new one; links stay links, and what is no file is written to."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.runtime.files import atomic
from retrieval_distill.runtime.stages import write_json


def written(path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)


def test_a_failure_leaves_the_file_that_was_there(tmp_path):
    path = tmp_path / "new" / "x.txt"
    written(path, "old")
    with pytest.raises(ValueError, match="no"), atomic(path) as temporary:
        temporary.write_text("half")
        raise ValueError("no")
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["x.txt"]


def test_behind_a_link_the_file_is_replaced_and_the_link_stays(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    behind, link, dangling = tmp_path / "elsewhere" / "x.json", tmp_path / "link.json", tmp_path / "dangling.json"
    behind.write_text("old")
    link.symlink_to(behind)
    dangling.symlink_to(tmp_path / "elsewhere" / "later.json")
    for path, value in ((link, 1), (dangling, 2)):
        write_json(path, value)
        assert path.is_symlink()
    assert json.loads(behind.read_text()) == 1
    assert json.loads((tmp_path / "elsewhere" / "later.json").read_text()) == 2


def test_a_device_is_written_to(tmp_path):
    pipe, seen = tmp_path / "pipe", tmp_path / "seen"
    os.mkfifo(pipe)
    with seen.open("wb") as out:
        reader = subprocess.Popen(["cat", pipe], stdout=out)
    written(pipe, "text\n")
    assert reader.wait(timeout=60) == 0
    assert seen.read_text() == "text\n"
    assert pipe.is_fifo()


PRINTS = """
from retrieval_distill.runtime.stages import write_json
print("before")
write_json("/proc/self/fd/1", {"a": 1})
print("after")
"""


@pytest.mark.skipif(not Path("/proc/self/fd/1").exists(), reason="needs Linux's names of open files")
@pytest.mark.parametrize("to_a_file", [False, True])
def test_the_standard_output_is_written_in_order(tmp_path, to_a_file):
    with (tmp_path / "out").open("w") as out:
        done = subprocess.run([sys.executable, "-c", PRINTS], stdout=out if to_a_file else subprocess.PIPE, text=True)
    text = (tmp_path / "out").read_text() if to_a_file else done.stdout
    first, *middle, last = text.splitlines()
    assert (first, last) == ("before", "after")
    assert json.loads("".join(middle)) == {"a": 1}


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path, message in (
        (tmp_path, "this is a folder"),
        (tmp_path / "file" / "x", "cannot be written"),
        ("/proc/none/x", "cannot be written"),
        (tmp_path / ("x" * 300) / "y", "cannot be written"),
        (tmp_path / ("x" * 300), "cannot be written"),
    ):
        with pytest.raises(UserError, match=message), atomic(path):
            pytest.fail("the work was done for nothing")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    written(tmp_path / "x", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="x: the disk is full, nothing of it was written"):
        written(tmp_path / "x", "new")
    assert (tmp_path / "x").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]
