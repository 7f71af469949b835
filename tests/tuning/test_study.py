"""The study: the same suggestions whatever kills it, every trial counted once, and the better half goes on."""

from __future__ import annotations

import random
import signal
import sys
import time

import pytest

pytest.importorskip("optuna")

from retrieval_distill.errors import UserError
from retrieval_distill.reporting.tuning_file import RUNGS
from retrieval_distill.tuning.space import Choices, Range
from retrieval_distill.tuning.study import Study
from tests.programs import Program

SPACE = {"rate": Range(1e-5, 1e-2, log=True), "size": Range(16, 64, step=16), "kind": Choices(("a", None, 2))}

TRIALS = 16

LOOP = """
import sys, time
from pathlib import Path
from tests.tuning.test_study import searched
print("begins", flush=True)
searched(Path(sys.argv[1]), pause=0.01)
"""


BESIDE = """
import os, sys, time
from pathlib import Path
from retrieval_distill.reporting.tuning_file import RUNGS
from retrieval_distill.tuning.study import Study
from tests.tuning.test_study import SPACE, TRIALS, worth

folder = Path(sys.argv[1])
study = Study(folder, SPACE, "tpe", 7, storage=sys.argv[2], name=sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
while (trial := study.begin(lambda trials: len(trials) >= TRIALS)) or study.under_way:
    if trial is None:
        time.sleep(0.05)
        continue
    with (folder / "tried").open("a") as tried:
        tried.write(f"{trial.number} {os.getpid()}\\n")
    time.sleep(0.3)
    study.finish(trial, "complete", worth(trial.settings))
"""


def worth(settings: dict) -> float:
    """What a setting is worth, without training anything."""
    return -abs(settings["rate"] - 1e-3) - settings["size"] / 1000 + (settings["kind"] == "a")


def searched(folder, sampler: str = "tpe", trials: int = TRIALS, pause: float = 0.0) -> list[dict]:
    """A whole search, continued where there is one; what was tried and what became of it."""
    study = Study(folder, SPACE, sampler, 7)
    most = min(trials, study.most or trials)
    while sum(trial.finished for trial in study.trials) < most:
        trial = study.begin()
        for rung, share in RUNGS.items():
            time.sleep(pause)
            if not study.reach(trial, rung, share * worth(trial.settings)):
                study.finish(trial, "pruned")
                break
        else:
            study.finish(trial, "complete", worth(trial.settings))
    found = study.trials
    study.close()
    return [(trial.number, trial.settings, trial.state, trial.value, trial.rungs) for trial in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> list[dict]:
    return searched(tmp_path_factory.mktemp("study"))


def test_a_search_that_is_killed_again_and_again_tries_the_same(whole, tmp_path):
    rng, kills = random.Random(3), 0
    for _ in range(6):
        process = Program("-c", LOOP, tmp_path)
        assert process.stdout.readline() == "begins\n"
        time.sleep(rng.uniform(0, 1.5))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills
    assert searched(tmp_path) == whole


def test_every_trial_is_counted_once(whole):
    assert [number for number, *_ in whole] == list(range(TRIALS))
    assert {state for _, _, state, *_ in whole} == {"complete", "pruned"}


def test_a_trial_that_was_under_way_is_the_next_one(tmp_path):
    study = Study(tmp_path, SPACE, "tpe", 7)
    begun = study.begin()
    study.reach(begun, 1, 0.3)
    study.close()
    again = Study(tmp_path, SPACE, "tpe", 7).begin()
    assert (again.number, again.settings, again.rungs) == (begun.number, begun.settings, {1: 0.3})


def test_the_better_half_of_those_before_it_goes_on(tmp_path):
    study, values, seen = Study(tmp_path, SPACE, "random", 7), [5, 3, 6, 4, 7, 5.5, 1], []
    for value in values:
        trial = study.begin()
        better = sum(other > value for other in seen)
        seen.append(value)
        assert study.reach(trial, 1, value) == (better < (len(seen) + 1) // 2), value
        assert study.reach(trial, 1, value) == (better < (len(seen) + 1) // 2)  # asked again after a kill
        study.finish(trial, "complete", value)


def test_a_grid_ends_when_every_combination_was_tried(tmp_path):
    found = searched(tmp_path, "grid", trials=100)
    settings = [tuple(settings.values()) for _, settings, *_ in found]
    assert len(settings) == len(set(settings)) == 3 * 4 * 3


def test_the_key_that_decides_is_the_important_one(tmp_path):
    study = Study(tmp_path, SPACE, "random", 7)
    for count in range(30):
        assert bool(study.importance()) == (count >= 8)
        trial = study.begin()
        study.finish(trial, "complete", trial.settings["size"] + count / 1000)
    importance = study.importance()
    assert set(importance) == set(SPACE)
    assert max(importance, key=importance.get) == "size"
    assert sum(importance.values()) == pytest.approx(1)


def ready(folder, storage: str, count: int) -> list[Program]:
    """Processes that search together as soon as they are told to."""
    found = [Program("-c", BESIDE, folder, storage) for _ in range(count)]
    for process in found:
        assert process.stdout.readline() == "ready\n"
    return found


def go(process: Program) -> Program:
    process.stdin.write("go\n")
    process.stdin.close()
    return process


def test_several_processes_count_each_trial_once_and_take_up_those_of_killed_ones(tmp_path, storage):
    rng, killed, waiting = random.Random(11), [], ready(tmp_path, storage, 6)
    working = [go(waiting.pop()) for _ in range(3)]
    for _ in range(3):
        time.sleep(rng.uniform(0.2, 0.6))
        victim = working.pop(0)
        victim.send_signal(signal.SIGKILL)
        if victim.wait() == -signal.SIGKILL:
            killed.append(victim.pid)
        working.append(go(waiting.pop()))
    assert killed
    assert [process.wait(timeout=60) for process in working] == [0, 0, 0]
    study = Study(tmp_path, SPACE, "tpe", 7, storage=storage, name=str(tmp_path))
    assert [trial.number for trial in study.trials] == list(range(TRIALS))
    assert {trial.state for trial in study.trials} == {"complete"}
    assert len({tuple(trial.settings.items()) for trial in study.trials}) > TRIALS / 2
    tried: dict[int, list[int]] = {}
    for line in (tmp_path / "tried").read_text().splitlines():
        number, process = map(int, line.split())
        tried.setdefault(number, []).append(process)
    assert sorted(tried) == list(range(TRIALS))
    for processes in tried.values():
        assert set(processes[:-1]) <= {*killed}  # begun again only where the one before was killed
    study.close()


def test_a_trial_of_another_process_is_not_taken_while_it_is_being_tried(tmp_path, storage):
    [process] = ready(tmp_path, storage, 1)
    study = Study(tmp_path, SPACE, "random", 7, storage=storage, name=str(tmp_path))
    go(process)
    while not (tmp_path / "tried").exists():
        time.sleep(0.01)
    mine = study.begin(lambda trials: len(trials) >= TRIALS)
    tried = {int(line.split()[0]) for line in (tmp_path / "tried").read_text().splitlines()}
    assert tried
    assert mine.number not in tried
    study.finish(mine, "complete", 1.0)
    assert process.wait(timeout=60) == 0
    assert [trial.state for trial in study.trials] == ["complete"] * TRIALS
    assert study.begin(lambda trials: len(trials) >= TRIALS) is None
    study.close()


def test_two_searches_in_one_storage_know_nothing_of_each_other(tmp_path, storage):
    names = [f"{tmp_path} {name}" for name in ("one", "other")]
    one, other = (Study(tmp_path, SPACE, "random", 7, storage=storage, name=name) for name in names)
    begun = [study.begin() for study in (one, other)]
    assert [trial.number for trial in begun] == [0, 0]
    one.finish(begun[0], "complete", 0.5)
    assert [[trial.state for trial in study.trials] for study in (one, other)] == [["complete"], ["running"]]
    one.close()
    other.close()


def test_quality_and_cost_are_suggested_for_together(tmp_path):
    study = Study(tmp_path, SPACE, "tpe", 7, against="size")
    for _ in range(14):
        trial = study.begin()
        study.finish(trial, "complete", worth(trial.settings), size=trial.settings["size"])
    assert [trial.value for trial in study.trials] == [worth(trial.settings) for trial in study.trials]
    assert sum(study.importance().values()) == pytest.approx(1)
    study.close()


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("nonsense", "no address of a database"),
        ("mysql://user@host/name", "write sqlite:///FILE"),
        ("sqlite://", "write sqlite:///FILE"),
    ],
)
def test_a_storage_that_cannot_be_used_is_refused(tmp_path, storage, said):
    with pytest.raises(UserError, match=said):
        Study(tmp_path, SPACE, "tpe", 7, storage=storage)


def test_a_driver_that_is_missing_is_named_and_a_password_is_not(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UserError, match=r"pip install 'retrieval-distill\[postgresql\]'") as error:
        Study(tmp_path, SPACE, "tpe", 7, storage="postgresql://me:secret@host/name")
    assert "secret" not in str(error.value)
