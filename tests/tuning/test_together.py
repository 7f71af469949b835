"""Searches of several processes and machines, by tokens, and for quality against cost: on the tiny recipe."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

pytest.importorskip("optuna")

import retrieval_distill as rd
from retrieval_distill.config import load_recipe, parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.runtime.stages import read_manifest
from tests.programs import Spawned

RATES = "1e-5..1e-2 log"


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> dict:
    return {
        **tiny_recipe,
        "teacher": {**tiny_recipe["teacher"], "gate": "off"},
        "training": {**tiny_recipe["training"], "steps": 8, "agreement_queries": 0},
        "tune": {"space": {"training.learning_rate": RATES}, "sampler": "random", "finalists": 1, "seeds": 1},
    }


def tuned(recipe: dict, out: Path, storage: str | None = None, **options) -> rd.Tuning:
    return rd.tune(parse_recipe(recipe), out=out, storage=storage, **options)


def killed_worker(process: Spawned, folder: Path) -> int:
    """Kill the first worker whose student is being trained, and give back the number of its trial.

    The first process begins while its workers still import. It is halted in its first training until then: it could
    have done all trials before a worker had one.
    """
    while process.poll() is None:
        for path in folder.glob(".study-*-trial-*.lock"):
            try:
                holder = int(path.read_text().split()[1])
            except (OSError, IndexError):  # it is just being released, or written
                continue
            number = int(re.search(r"trial-(\d+)", path.name)[1])
            if not list(folder.glob(f"trials/{number:03d}/student.partial/checkpoints/checkpoint-*")):
                continue
            if holder == process.pid:
                process.send_signal(signal.SIGSTOP)
            else:
                os.kill(holder, signal.SIGKILL)
                process.send_signal(signal.SIGCONT)
                return number
        time.sleep(0.005)
    raise AssertionError(process.communicate())


def test_a_killed_worker_s_trial_is_taken_up_and_no_stage_is_done_twice(recipe, tmp_path):
    space = {"training.learning_rate": RATES, "mining": ["hybrid", "bm25-hard"]}
    path, out = tmp_path / "tiny.yaml", tmp_path / "search"
    path.write_text(yaml.safe_dump({**recipe, "tune": {**recipe["tune"], "space": space, "budget": "6 trials"}}))
    # not forked: its workers have all to import, and it would be done before they begin
    process = Spawned("-m", "retrieval_distill", "tune", path, "--out", out, "--jobs", "3")
    number = killed_worker(process, out)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "ended early (-9); others took up its trial" in said
    assert re.search(r"worker \d: trial \d+: ", said)
    trials = rd.Tuning.open(out).details["trials"]
    assert [trial["number"] for trial in trials] == list(range(6))
    assert {trial["state"] for trial in trials} <= {"complete", "pruned"}
    assert said.count(f"trial {number}: dev ") + said.count(f"trial {number}, ") >= 1
    for stage, different in (("candidates", 2), ("teacher-scores", 2), ("embeddings-start", 1)):
        folders: dict[str, list[Path]] = {}
        for folder in out.glob(f"trials/*/{stage}"):
            folders.setdefault(read_manifest(folder)["fingerprint"], []).append(folder)
        assert len(folders) == different
        for same in folders.values():
            name = next(iter(read_manifest(same[0])["files"]))
            assert len({(folder / name).stat().st_ino for folder in same}) == 1, stage
    runs = [Run.load(path) for path in out.glob("trials/*/candidates/run.parquet")]
    rows = [pq.read_metadata(path).num_rows for path in out.glob("scores/*/*.parquet")]
    assert sum(rows) == len({pair for run in runs for pair in run.pairs})  # no pair was scored twice


def test_machines_with_one_storage_share_the_trials_and_the_verdict(recipe, tmp_path, storage):
    here, there = tmp_path / "here", tmp_path / "there"
    first = tuned(recipe, here, storage, budget="2 trials")
    both = tuned(recipe, there, storage, budget="4 trials")
    assert [trial["number"] for trial in both.details["trials"]] == [0, 1, 2, 3]
    assert both.details["trials"][:2] == first.details["trials"]
    numbers = {path.name for path in (there / "trials").iterdir() if path.is_dir()}
    chosen = {f"{int(f['name'].split()[1]):03d}" for f in both.details["finalists"] if f["name"] != "own"}
    assert numbers == {"own", "002", "003"} | chosen
    assert set(both.details["p_holm"]) | {both.details["chosen"]["name"]} >= {
        f"trial {trial['number']}" for trial in both.details["trials"] if trial["state"] == "complete"
    }
    again = tuned(recipe, here, storage, budget="4 trials")
    assert again.details == both.details
    assert (here / "best.yaml").read_text().splitlines()[2:] == (there / "best.yaml").read_text().splitlines()[2:]
    assert {path.name for path in (here / "trials").iterdir() if path.is_dir()} <= {"own", "000", "001"}
    with pytest.raises(UserError, match="differs in storage"):
        tuned(recipe, here, budget="4 trials")


def test_a_machine_with_other_dev_queries_is_refused(recipe, dataset_folder, tmp_path):
    copied = tmp_path / "data"
    shutil.copytree(dataset_folder, copied)
    storage, there = f"sqlite:///{tmp_path / 'shared.db'}", {**recipe, "dataset": {"source": str(copied)}}
    tuned(there, tmp_path / "one", storage, budget="1 trials")
    judged = copied / "qrels" / "dev.tsv"
    judged.write_text("\n".join(judged.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(UserError, match="other dev queries compared 1 trial so far"):
        tuned(there, tmp_path / "other", storage, budget="2 trials")


def test_a_budget_of_tokens_ends_the_search_with_the_trial_that_spends_it(recipe, tmp_path):
    out = tmp_path / "search"
    one = tuned(recipe, out, budget="1 tokens").details["trials"]
    log = json.loads((out / "trials" / "000" / "student" / "training_log.json").read_text())
    tokens = sum(row.get("tokens", 0) for row in log)
    assert [trial["facts"]["tokens"] for trial in one] == [tokens]
    assert len(tuned(recipe, out, budget=f"{tokens} tokens").details["trials"]) == 1
    found = tuned(recipe, out, budget=f"{2 * tokens + 1} tokens")
    seen = [trial["facts"]["tokens"] for trial in found.details["trials"]]
    assert sum(seen[:-1]) < 2 * tokens + 1 <= sum(seen)
    for trial, spent in zip(found.details["trials"], seen, strict=True):
        assert 0 < spent < tokens if trial["state"] == "pruned" else spent == tokens
    assert f"{sum(seen):,} tokens" in (out / "tuning.md").read_text()


def test_quality_against_cost_gives_the_settings_that_none_beats_in_both(recipe, tmp_path):
    space = {"student.dimensions": [8, 16, 24], "training.learning_rate": [1e-5, 1e-3]}
    options = {"space": space, "sampler": "grid", "against": "dimensions", "budget": "6 trials"}
    found = tuned(recipe, tmp_path / "search", **options)
    trials = {f"trial {trial['number']}": trial for trial in found.details["trials"]}
    assert {trial["state"] for trial in trials.values()} == {"complete"}  # none is ended early
    points = {name: (trial["value"], trial["settings"]["student.dimensions"]) for name, trial in trials.items()}
    own = found.details["own"]["means"][0], found.details["compared"][0]["cost"]
    points = {"own": own, **points}
    assert {point["name"]: (point["value"], point["cost"]) for point in found.details["compared"]} == points
    not_beaten = {
        name
        for name, (value, cost) in points.items()
        if not any(v >= value and c <= cost and (v, c) != (value, cost) for v, c in points.values())
    }
    assert {point.name for point in found.report.front} == not_beaten
    kept = {path.stem.replace("-", " "): load_recipe(path) for path in (found.folder / "front").iterdir()}
    assert set(kept) == not_beaten
    for name, made in kept.items():
        wanted = trials[name]["settings"] if name != "own" else {}
        assert made.student.dimensions == wanted.get("student.dimensions")
        assert (
            found.folder / "trials" / ("own" if name == "own" else f"{trials[name]['number']:03d}") / "student"
        ).is_dir()
    page = (found.folder / "tuning.html").read_text()
    assert page.count("<svg") == len(space) + 2  # all settings at once, and the measure against the cost
    for told in (str(found), (found.folder / "tuning.md").read_text(), page):
        assert "ot beaten" in told


def test_latency_is_measured_alone(recipe, tmp_path):
    found = tuned(recipe, tmp_path / "alone", against="latency", budget="1 trials")
    assert all(0 < point["cost"] < 10_000 for point in found.details["compared"])
    assert len(found.details["compared"]) == 2
    for beside in ({"jobs": 2}, {"storage": f"sqlite:///{tmp_path / 'shared.db'}"}):
        with pytest.raises(UserError, match="does nothing else"):
            tuned(recipe, tmp_path / "beside", against="latency", **beside)


def test_a_small_dev_split_is_warned_of_before_the_first_trial(recipe, tmp_path, caplog):
    with caplog.at_level("INFO", "retrieval_distill"):
        tuned(recipe, tmp_path / "search", budget="1 trials")
    said = [record.getMessage() for record in caplog.records]
    warned = next(i for i, line in enumerate(said) if line.startswith("dev is too small to tell trials apart: 6 dev"))
    assert warned < next(i for i, line in enumerate(said) if line.startswith("trial 0: "))
