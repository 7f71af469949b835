"""Of several processes each leaves the others when its command is done, and not when it failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import distributed

from retrieval_distill import processes
from tests.commands import command

SAMPLE = Path(__file__).parents[1] / "data" / "sample"


@pytest.fixture
def group(monkeypatch):
    """A process group of one, which takes itself for the first of two."""
    for name, value in {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def convert(source: object, tmp_path, code: int = 0) -> str:
    return command("convert", source, tmp_path / "out", "--to", "beir", code=code)


def test_a_command_that_is_done_leaves(group, tmp_path):
    convert(SAMPLE, tmp_path)
    assert not distributed.is_initialized()
    processes.leave()  # once more does nothing


def test_a_command_that_failed_leaves_the_end_to_the_launcher(group, tmp_path):
    assert "nothing" in convert(tmp_path / "nothing", tmp_path, code=2)
    assert distributed.is_initialized()


def test_without_a_launcher_there_is_nobody_to_leave(group, monkeypatch):
    monkeypatch.delenv("LOCAL_RANK")
    processes.leave()
    assert distributed.is_initialized()
