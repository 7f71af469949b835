"""Of several processes each ends by itself when its command is done, and is left to the launcher when it failed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOGETHER = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}
PROGRAM = """
import atexit, sys
from torch import distributed
from retrieval_distill import cli

class TakenDown:
    def __del__(self):
        print("taken down", flush=True)

held = TakenDown()
atexit.register(lambda: print("at exit, a group:", distributed.is_initialized()))
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
cli.main()
"""


def convert(source: Path, out: Path, code: int, **environment: str) -> list[str]:
    """The command as one of two processes, in a group of its own: what it and the interpreter's end print."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "convert", str(source), str(out), "--to", "beir"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )
    assert done.returncode == code, done.stderr
    return done.stdout.splitlines()


def test_a_command_that_is_done_ends_before_the_interpreter_is_taken_down(tmp_path):
    *printed, at_exit = convert(ROOT / "data" / "sample", tmp_path / "out", 0, **TOGETHER)
    assert at_exit == "at exit, a group: False"
    assert "taken down" not in printed
    assert (tmp_path / "out" / "corpus.jsonl").exists()


def test_a_command_that_failed_is_left_to_the_launcher(tmp_path):
    printed = convert(tmp_path / "nothing", tmp_path / "out", 2, **TOGETHER)
    assert printed == ["at exit, a group: True", "taken down"]


def test_alone_the_interpreter_ends_as_ever(tmp_path):
    printed = convert(ROOT / "data" / "sample", tmp_path / "out", 0)
    assert printed[-2:] == ["at exit, a group: True", "taken down"]
