"""A stage among several processes: the first works, the others wait for it, and join in where all work together."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NotRequired, get_args, get_origin, get_type_hints

import pytest

from retrieval_distill.runtime import manifests, memory, processes, stages
from retrieval_distill.runtime.manifests import Entry, Manifest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import os, sys, time
from pathlib import Path
from retrieval_distill.runtime import memory, stages

folder, together, inputs = Path(sys.argv[1]), sys.argv[2] == "together", sys.argv[3]
rank = os.environ["RANK"]
assert "torch" not in sys.modules

def work(out):
    (out / f"by-{rank}").write_text(inputs)
    while together and not all((out / f"by-{other}").exists() for other in "012"):
        time.sleep(0.01)  # as training's last collective call does
    time.sleep(0.3)
    return {"rank": rank}

time.sleep(0.2 * (2 - int(rank)))  # the others come first
manifest = stages.stage("try", folder, {"inputs": inputs}, work, together)
print(manifest["counts"]["rank"], manifest["skipped"], sorted(path.name for path in folder.glob("by-*")))
"""


def started(folder: Path, together: bool, inputs: str) -> list[str]:
    """What three processes say in the end."""
    command = [sys.executable, "-c", PROGRAM, str(folder), "together" if together else "alone", inputs]
    each = [
        subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "3", "PYTHONPATH": str(ROOT)},
        )
        for rank in range(3)
    ]  # fmt: skip
    said = [process.communicate(timeout=60) for process in each]
    assert [process.returncode for process in each] == [0, 0, 0], said
    return [out.strip() for out, _ in said]


@pytest.mark.parametrize("together", [False, True])
def test_one_stage_by_three_processes(tmp_path, together):
    files = [f"by-{rank}" for rank in range(3 if together else 1)]
    expected = [f"0 {skipped} {files}" for skipped in (False, True, True)]
    assert started(tmp_path / "stage", together, "a") == expected
    again = [f"0 True {files}"] * 3
    assert started(tmp_path / "stage", together, "a") == again
    assert started(tmp_path / "stage", together, "b") == expected  # the old result is not taken for the new one
    assert (tmp_path / "stage" / "by-0").read_text() == "b"
    assert not (tmp_path / "stage.partial").exists()


def test_killed_before_the_rename_nobody_joins_in(tmp_path):
    """The manifest is written, the folder is not renamed: the first only commits, and no other may start to work."""
    assert started(tmp_path / "stage", True, "a")[0].startswith("0 False")
    (tmp_path / "stage").rename(tmp_path / "stage.partial")
    assert [line.split()[1] for line in started(tmp_path / "stage", True, "a")] == ["False", "True", "True"]


def test_one_process_without_a_launcher(monkeypatch, tmp_path):
    for name in ("LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (processes.count(), processes.rank()) == (1, 0)
    monkeypatch.setenv("WORLD_SIZE", "4")  # a cluster's own variables are not torchrun's
    monkeypatch.setenv("RANK", "2")
    assert (processes.count(), processes.rank()) == (1, 0)
    manifest = stages.stage("try", tmp_path / "stage", {}, lambda out: {"n": 1})
    assert json.loads((tmp_path / "stage" / "manifest.json").read_text())["counts"] == manifest["counts"] == {"n": 1}


def test_a_manifest_holds_what_its_type_says(tmp_path):
    """No key more or less, each of its kind; the list of files too."""

    def work(out: Path) -> dict:
        (out / "small").write_bytes(b"abc")
        with (out / "large").open("wb") as file:
            file.truncate(manifests.LARGE_IN_CACHE + 1)
        return {}

    told = stages.stage("try", tmp_path / "stage", {"a": 1}, work, cache=True)
    written = json.loads((tmp_path / "stage" / "manifest.json").read_text())
    files = written["files"]
    for found, type_ in ((told, Manifest), (written, Manifest), (files["small"], Entry), (files["large"], Entry)):
        kinds = {key: get_args(kind)[0] if get_origin(kind) is NotRequired else kind
                 for key, kind in get_type_hints(type_, include_extras=True).items()}  # fmt: skip
        assert found.keys() <= kinds.keys()
        assert all(isinstance(value, get_origin(kinds[key]) or kinds[key]) for key, value in found.items())
    assert written.keys() == set(Manifest.__annotations__) - {"skipped"}
    assert (set(files["small"]), set(files["large"])) == ({"bytes", "sha256"}, {"bytes", "sample"})


def test_a_stage_within_a_stage_leaves_the_outer_ones_peak(tmp_path):
    def outer(out: Path) -> dict[str, int]:
        held = bytearray(64 << 20)
        held[:: 1 << 12] = b"x" * len(held[:: 1 << 12])
        del held
        return stages.stage("inner", out / "inner", {}, lambda _: {"n": 1})["counts"]

    memory.release()
    memory.reset_peak()
    resting = memory.peak_bytes()
    manifest = stages.stage("outer", tmp_path / "outer", {}, outer)
    assert manifest["counts"] == {"n": 1}
    assert manifest["peak_memory_bytes"] > resting + (48 << 20)
