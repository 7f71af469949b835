"""Runs that share results: a stage takes over what another run made of the same inputs, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrieval_distill.runtime import sharing, stages
from tests.programs import Program


class Work:
    """Writes a file, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> dict[str, int]:
        self.times += 1
        (folder / "part").mkdir(exist_ok=True)
        (folder / "part" / "values.txt").write_text(f"made {self.times}")
        return {"made": self.times}


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    return [tmp_path / name for name in ("a", "b", "a-again")]


def test_the_same_inputs_are_worked_on_once(runs):
    work = Work()
    for i, run in enumerate(runs):
        with sharing.among(runs):
            manifest = stages.stage("make", run / "made", {"of": 1}, work)
        assert manifest["skipped"] == (i > 0)
        assert manifest["counts"] == {"made": 1}
        assert (run / "made" / "part" / "values.txt").read_text() == "made 1"
    assert work.times == 1
    assert not list(runs[1].glob("*.partial"))
    assert stages.stage("make", runs[1] / "made", {"of": 1}, work)["skipped"]  # whole by itself


def test_replacing_one_leaves_the_others_as_they_are(runs):
    work = Work()
    with sharing.among(runs):
        for run in runs:
            stages.stage("make", run / "made", {"of": 1}, work)
        stages.stage("make", runs[0] / "made", {"of": 2}, work)
    assert [(run / "made" / "part" / "values.txt").read_text() for run in runs] == ["made 2", "made 1", "made 1"]


def test_other_inputs_another_place_and_no_sharing_are_worked_on(runs):
    work = Work()
    with sharing.among(runs):
        stages.stage("make", runs[0] / "made", {"of": 1}, work)
        stages.stage("make", runs[1] / "made", {"of": 2}, work)
        stages.stage("make", runs[1] / "elsewhere", {"of": 1}, work)
        stages.stage("make", runs[0].parent / "none" / "made", {"of": 1}, work)
    stages.stage("make", runs[2] / "made", {"of": 1}, work)
    assert work.times == 5


def test_a_damaged_result_is_not_taken_over(runs):
    work = Work()
    with sharing.among(runs):
        stages.stage("make", runs[0] / "made", {"of": 1}, work)
        (runs[0] / "made" / "part" / "values.txt").write_text("altered")
        stages.stage("make", runs[1] / "made", {"of": 1}, work)
    assert (runs[1] / "made" / "part" / "values.txt").read_text() == "made 2"


def test_what_was_left_of_an_attempt_gives_way_to_a_whole_result(runs):
    work = Work()

    def failing(folder: Path) -> dict[str, int]:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        stages.stage("make", runs[1] / "made", {"of": 1}, failing)
    with sharing.among(runs):
        stages.stage("make", runs[0] / "made", {"of": 1}, work)
        assert stages.stage("make", runs[1] / "made", {"of": 1}, work)["skipped"]
    assert sorted(path.name for path in (runs[1] / "made").rglob("*.txt")) == ["values.txt"]


BESIDE = """
import sys, time
from pathlib import Path
from retrieval_distill.runtime import sharing, stages

run = Path(sys.argv[1])
class Runs:
    def __iter__(self):
        return iter(sorted(path for path in run.parent.glob("[!.]*") if path.is_dir()))

def work(folder):
    with (run.parent / ".times").open("a") as times:
        times.write("x")
    time.sleep(0.5)
    (folder / "values.txt").write_text("made")
    return {}

run.mkdir()
with sharing.among(Runs()):
    print("begins", flush=True)
    sys.stdin.readline()
    stages.stage("make", run / "made", {"of": 1}, work)
"""


def test_of_processes_that_need_the_same_one_works_and_the_others_take_it_over(tmp_path):
    started = [Program("-c", BESIDE, tmp_path / f"run-{number}") for number in range(3)]
    for process in started:
        assert process.stdout.readline() == "begins\n"
    for process in started:
        process.stdin.write("go\n")
        process.stdin.close()
    assert [process.wait() for process in started] == [0, 0, 0]
    assert (tmp_path / ".times").read_text() == "x"
    made = [tmp_path / f"run-{number}" / "made" / "values.txt" for number in range(3)]
    assert len({path.stat().st_ino for path in made}) == 1  # one file under three names
    assert [path.read_text() for path in made] == ["made"] * 3
