"""A search on the tiny recipe: what is done once, what is chosen and how sure that is, what is kept and refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("optuna")

import retrieval_distill as rd
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.runtime.stages import read_manifest
from retrieval_distill.scores.store import ScoreStore
from tests.commands import command

SPACE = {"training.learning_rate": [1e-5, 1e-4, 1e30], "mining": ["hybrid", "bm25-hard"]}
"""The teacher's scores mean nothing, so the less a student learns the better; the last rate ends in what is no number."""


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> dict:
    return {
        **tiny_recipe,
        "teacher": {**tiny_recipe["teacher"], "gate": "off"},
        "training": {**tiny_recipe["training"], "steps": 8, "learning_rate": 1e-2, "agreement_queries": 0},
        "tune": {"space": SPACE, "sampler": "grid", "budget": "10 trials", "finalists": 2, "seeds": 2},
    }


@pytest.fixture(scope="module")
def found(recipe, tmp_path_factory) -> rd.Tuning:
    return rd.tune(parse_recipe(recipe), out=tmp_path_factory.mktemp("tuned") / "search")


def kept(found: rd.Tuning, stage: str) -> dict[str, list[Path]]:
    """Fingerprint -> the folders of a stage with that result."""
    folders: dict[str, list[Path]] = {}
    for folder in sorted(found.folder.glob(f"trials/*/{stage}")):
        folders.setdefault(read_manifest(folder)["fingerprint"], []).append(folder)
    return folders


@pytest.mark.parametrize(
    ("stage", "different"),
    [("embeddings-start", 1), ("index-start", 1), ("candidates", 2), ("teacher-scores", 2), ("training-lists", 2)],
)
def test_a_stage_is_done_once_for_all_trials_with_the_same_inputs(found, stage, different):
    folders = kept(found, stage)
    assert len(folders) == different
    assert sum(map(len, folders.values())) == 1 + 6 + 3  # own, trials, and one more seed of the finalists and of own
    for same in folders.values():
        for name in read_manifest(same[0])["files"]:
            assert len({(folder / name).stat().st_ino for folder in same}) == 1, name  # one file under several names


def test_a_pair_is_scored_once(found):
    asked = {pair for same in kept(found, "candidates").values() for pair in Run.load(same[0] / "run.parquet").pairs}
    [teacher] = ScoreStore(found.folder / "scores").teachers()
    assert teacher["pairs"] == len(asked)
    scored = [read_manifest(same[0])["counts"]["scored"] for same in kept(found, "teacher-scores").values()]
    assert sum(scored) == len(asked)


def test_a_trial_that_fails_is_noted_and_the_others_go_on(found):
    states = {trial["number"]: trial["state"] for trial in found.details["trials"]}
    assert list(states) == list(range(6))
    assert [states[number] for number in (4, 5)] == ["fail", "fail"]
    assert "fail" not in [states[number] for number in range(4)]
    error = found.details["trials"][4]["facts"]["error"]
    assert "try a lower training.learning_rate" in error
    assert f"2 failed: trial 4: {error}" in str(found)


def test_the_best_on_dev_is_chosen_by_the_mean_of_its_seeds(found):
    means = {finalist["name"]: np.mean(finalist["means"]) for finalist in found.details["finalists"]}
    assert len(means) == 3
    assert {len(finalist["means"]) for finalist in found.details["finalists"]} == {2}
    assert found.details["chosen"]["name"] == max(means, key=means.get) != "own"
    complete = sorted((t["value"] for t in found.details["trials"] if t["state"] == "complete"), reverse=True)
    firsts = [finalist["means"][0] for finalist in found.details["finalists"][1:]]
    assert sorted(firsts, reverse=True) == pytest.approx(complete[:2])


def test_test_queries_compare_what_was_chosen_with_the_recipe_itself(found, dataset):
    def measured(name: str) -> np.ndarray:
        rows = []
        for folder in (found.folder / "trials" / name, found.folder / "trials" / f"{name}-seed-8"):
            student = str(folder / "student")
            run = rd.search(dataset.queries("test"), folder / "index-student", model=student, depth=20)
            rows.append(run_values(run, dataset.qrels("test")))
        return np.mean(rows, axis=0)

    number = int(found.details["chosen"]["name"].split()[1])
    tuned, own = measured(f"{number:03d}"), measured("own")
    said = found.details["test"]["measures"]["RR@10"]
    assert said["tuned"]["mean"] == pytest.approx(tuned.mean())
    assert said["own"]["mean"] == pytest.approx(own.mean())
    assert said["difference"]["mean"] == pytest.approx((tuned - own).mean())
    assert said["p"] == pytest.approx(paired_p(tuned, own))
    first = found.details["test"]["measures"]["nDCG@10"]
    shown = "is better" if first["p"] < 0.05 else "is not shown to be better"
    assert re.search(rf"best of 6 trials on dev is trial {number}: .* On 10 test queries it {shown}: ", found.verdict)


def run_values(run: Run, qrels: dict) -> np.ndarray:
    """The reciprocal rank of every judged query's relevant document among ten."""
    values, results = [], run.as_dict()
    for query, judged in qrels.items():
        ranked = sorted(results[query], key=lambda doc: -results[query][doc])[:10]
        ranks = [rank for rank, doc in enumerate(ranked, 1) if judged.get(doc, 0) > 0]
        values.append(1 / ranks[0] if ranks else 0.0)
    return np.array(values)


def test_the_recipe_that_comes_out_is_that_of_the_trial(found):
    number = int(found.details["chosen"]["name"].split()[1])
    tried = json.loads((found.folder / "trials" / f"{number:03d}" / "recipe.json").read_text())
    assert found.best == parse_recipe(tried)
    assert found.settings["training.learning_rate"] == found.best.training.learning_rate
    values = yaml.safe_load((found.folder / "best.yaml").read_text())
    assert "tune" not in values


def test_students_of_the_finalists_alone_are_kept(found):
    names = {f["name"] for f in found.details["finalists"]} - {"own"}
    numbers = {f"{int(name.split()[1]):03d}" for name in names}
    assert {path.parent.name[:3] for path in found.folder.glob("trials/*/student")} == numbers | {"own"}
    assert not list(found.folder.glob("trials/*/student.partial"))


def test_a_finished_search_is_opened_again_and_asks_test_no_more(found, recipe):
    again = rd.tune(parse_recipe(recipe), out=found.folder)
    assert again.details == found.details == rd.Tuning.open(found.folder).details
    assert len(again.details["test"]["asked"]) == 1


def test_the_same_is_told_in_a_table_in_markdown_and_on_a_page(found):
    markdown, page = ((found.folder / name).read_text() for name in ("tuning.md", "tuning.html"))
    for told in (str(found), markdown, page):
        assert found.details["chosen"]["name"] in told
        for trial in found.details["trials"]:
            assert trial["value"] is None or f"{trial['value']:.3f}" in told
    told_level = [line for line in str(found).splitlines() if line.startswith("Not told from the best")]
    assert all(found.details["chosen"]["name"] not in re.split(r", |: |\.", line) for line in told_level)
    on_the_way = any(trial["rungs"] for trial in found.details["trials"])
    assert (
        page.count("<svg") == len(SPACE) + (len(SPACE) > 1) + on_the_way
    )  # slices, all keys at once, over the training
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", page)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 8}, "differs in recipe.seed"),
        ({"tune": {"space": {"training.learning_rate": [1e-5, 1e-4]}}}, "differs in pruning"),
    ],
)
def test_a_folder_of_another_search_is_refused(found, recipe, change, said):
    changed = {**recipe, **change}
    changed["tune"] = {**changed["tune"], "pruning": "none"} if "tune" in change else recipe["tune"]
    with pytest.raises(UserError, match=said):
        rd.tune(parse_recipe(changed), out=found.folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--space", "training.lerning_rate=1e-5..5e-5 log"], "did you mean 'learning_rate'"),
        (["--space", "training.learning_rate"], "write it as NAME=VALUE"),
        (["--budget", "soon"], "tune: budget"),
        (["--sampler", "cmaes"], "tune: sampler"),
        (["--set", "dataset.dev=null"], "tune compares settings on dev queries: set dataset.dev"),
    ],
)
def test_mistakes_are_said_before_the_first_training(recipe, tmp_path, options, said):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    assert said in command("tune", path, "--out", tmp_path / "search", *options, code=2)
    assert not list(tmp_path.glob("search/trials/*/student*"))
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("keep me")
    assert "mine.txt" in command("tune", path, "--out", other, code=2)
