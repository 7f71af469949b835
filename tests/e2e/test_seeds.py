"""Several seeds: a finished run goes on with further students of the same lists, and says how far they lie apart."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.seed_summary import summarise
from retrieval_distill.evaluation.significance import holm, paired_p
from retrieval_distill.formatting import interval, number, signed
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.pipeline.rounds import further_seeds, rounds
from retrieval_distill.retrieval import exact
from retrieval_distill.retrieval.hybrid import Fusion, FusionTuning
from retrieval_distill.runtime.stages import read_manifest
from tests import programs
from tests.e2e.killing import DRIVER
from tests.reporting.reading import table

SYSTEMS = ("student", "hybrid-student")

STEPS = 4


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> dict:
    training = {**tiny_recipe["training"], "steps": STEPS, "learning_rate": 5e-3}
    return {**tiny_recipe, "teacher": {**tiny_recipe["teacher"], "gate": "off"}, "training": training}


def with_seeds(recipe: dict, seeds: int, **dataset: object) -> dict:
    evaluate = {**recipe["evaluate"], "seeds": seeds}
    return {**recipe, "evaluate": evaluate, "dataset": {**recipe["dataset"], **dataset}}


def run(recipe: dict, out: Path) -> dict:
    """As users run it: bytes are compared, and this process is not a fresh one."""
    path = out.with_name("tiny.yaml")
    path.write_text(yaml.safe_dump(recipe))
    done = programs.run("-m", "retrieval_distill", "run", path, "--out", out)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "report.json").read_text())


@pytest.fixture(scope="module")
def one(recipe, tmp_path_factory) -> tuple[Path, dict]:
    """A finished run of one student."""
    out = tmp_path_factory.mktemp("runs") / "one"
    return out, run(recipe, out)


@pytest.fixture(scope="module")
def three(one, recipe, tmp_path_factory) -> tuple[Path, dict]:
    """The same folder, gone on with."""
    out = tmp_path_factory.mktemp("runs") / "three"
    shutil.copytree(one[0], out)
    return out, run(with_seeds(recipe, 3), out)


def places(out: Path) -> dict[int, Path]:
    return {7: out, 8: out / "seeds" / "8", 9: out / "seeds" / "9"}


def weights(folder: Path) -> bytes:
    return (folder / "student" / "model.safetensors").read_bytes()


def test_a_finished_run_trains_the_further_students_only(one, three):
    before, after = one[1]["stages"], three[1]["stages"]
    assert before.keys() == {name for name, stage in after.items() if stage["skipped"]}
    each = ("distill", "embed-student", "index-student", "tune-fusion", "search")
    assert [name for name, stage in after.items() if not stage["skipped"]] == [
        f"{stage}-seed-{seed}" for seed in (8, 9) for stage in each
    ]
    assert one[1]["seeds"] is None and not (one[0] / "seeds").exists()
    for part in ("systems", "distillation", "fidelity", "minimum_detectable"):
        assert three[1][part] == one[1][part]


def test_the_students_learn_the_same_from_the_same_start_with_seeds_of_their_own(one, three):
    students = {seed: weights(place) for seed, place in places(three[0]).items()}
    assert students[7] == weights(one[0]) and len(set(students.values())) == 3
    inputs = {seed: read_manifest(place / "student")["inputs"] for seed, place in places(three[0]).items()}
    assert {seed: of.pop("seed") for seed, of in inputs.items()} == {7: 7, 8: 8, 9: 9}
    assert inputs[7] == inputs[8] == inputs[9]


def test_more_seeds_keep_those_that_are_there(three, recipe, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(three[0], out)
    shutil.rmtree(out / "seeds" / "9")
    report = pipeline.run(parse_recipe(with_seeds(recipe, 2)), out=out).details
    assert all(stage["skipped"] for stage in report["stages"].values())
    assert report["seeds"]["seeds"] == [7, 8]
    assert (
        report["seeds"]["systems"]["student"]["nDCG@10"]["means"]
        == (three[1]["seeds"]["systems"]["student"]["nDCG@10"]["means"][:2])
    )


def test_each_is_searched_and_fused_by_itself(three, dataset):
    out, _ = three
    queries, lexical = dataset.queries("test"), Run.load(out / "runs" / "bm25.parquet")
    for place in places(out).values():
        found = exact.search(Embeddings.open(place / "embeddings-student"), str(place / "student"), queries, 20)
        dense = Run.load(place / "runs" / "student.parquet")
        assert dense.pairs == found.pairs
        tuned = FusionTuning.read(place / "fusion", "hybrid-student.json")
        fused = Run.load(place / "runs" / "hybrid-student.parquet")
        assert tuned.split == "dev" and fused.pairs == tuned.chosen.fuse(lexical, dense).top(20).pairs


def oracle(out: Path, dataset, system: str, measure: str) -> np.ndarray:
    """Values [seeds, queries] of the Runs that were kept."""
    runs = [Run.load(place / "runs" / f"{system}.parquet") for place in places(out).values()]
    return np.stack([evaluate(run, dataset.qrels("test"), [measure])[measure].to_numpy() for run in runs])


def test_means_and_spread_are_recomputed_from_the_runs(three, dataset):
    out, report = three
    told = report["seeds"]
    assert told["seeds"] == [7, 8, 9] and told["queries"] == len(dataset.qrels("test"))
    assert list(told["systems"]) == list(SYSTEMS)
    for system, measures in told["systems"].items():
        assert list(measures) == report["recipe"]["evaluate"]["measures"]
        for measure, found in measures.items():
            values = oracle(out, dataset, system, measure)
            assert found["means"] == pytest.approx(values.mean(axis=1))
            assert found["mean"] == pytest.approx(values.mean())
            assert found["standard_deviation"] == pytest.approx(np.std(found["means"], ddof=1))
            expected = summarise(values)
            assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high))
            assert found["means"][0] == pytest.approx(report["systems"][system][measure]["mean"])
    assert len(set(told["systems"]["student"]["nDCG@10"]["means"])) > 1


def test_the_mean_over_the_seeds_is_compared_with_what_needs_no_training(three, dataset):
    out, report = three
    told = report["seeds"]["against"]
    best = report["distillation"]["best_untrained"]["system"]
    rivals = {name: Run.load(out / "runs" / f"{name}.parquet") for name in (best, "hybrid-start")}
    theirs = {name: evaluate(run, dataset.qrels("test"), ["nDCG@10"])["nDCG@10"] for name, run in rivals.items()}
    ours = {system: oracle(out, dataset, system, "nDCG@10").mean(axis=0) for system in SYSTEMS}
    pairs = [(own, other) for own in SYSTEMS for other in rivals]
    p = holm({(own, other): paired_p(ours[own], theirs[other].to_numpy()) for own, other in pairs})
    assert {(own, other) for own, of in told.items() for other in of} == set(pairs)
    for own, other in pairs:
        found = told[own][other]
        assert found["mean"] == pytest.approx((ours[own] - theirs[other]).mean())
        assert found["p"] == pytest.approx(p[own, other])
        assert found["low"] <= found["mean"] <= found["high"]
        assert (found["low"] > 0 or found["high"] < 0) == (found["p"] < 0.05)


def test_values_by_query_are_kept(three, dataset):
    values = pd.read_parquet(three[0] / "seeds" / "per_query.parquet")
    assert len(values) == 3 * 2 * len(dataset.qrels("test"))
    means = values[values["system"] == "hybrid-student"].groupby("seed")["nDCG@10"].mean()
    assert means.tolist() == pytest.approx(three[1]["seeds"]["systems"]["hybrid-student"]["nDCG@10"]["means"])


def test_the_spread_stands_in_every_form_of_the_report(three):
    out, report = three
    found = report["seeds"]["systems"]["hybrid-student"]["nDCG@10"]
    against = report["seeds"]["against"]["student"]["hybrid-start"]
    for name in ("report.txt", "report.md", "report.html", "student/README.md"):
        text = " ".join((out / name).read_text().split())
        assert "3 students, of seeds 7, 8 and 9, learnt from the same lists" in text
        deviation = f"standard deviation between seeds {number(found['standard_deviation'])}: "
        assert f"({interval(found['low'], found['high'])}), {deviation}" in text
        assert f"{signed(against['mean'])} ({signed(against['low'])} to {signed(against['high'])})" in text
        assert "this one student" not in text
    rows = table((out / "report.html").read_text(), "Students of several seeds")
    assert rows[0] == ["system", "measure", *rows[0][2:4], "seed 7", "seed 8", "seed 9"]
    [row] = (row for row in rows if row[:2] == ["hybrid-student", "nDCG@10"])
    assert row[4:] == [number(mean) for mean in found["means"]]
    assert f"| {' | '.join(row)} |" in (out / "report.md").read_text()


def test_killed_while_a_further_student_trains_it_ends_the_same(one, three, recipe, tmp_path):
    out, path = tmp_path / "run", tmp_path / "tiny.yaml"
    shutil.copytree(one[0], out)
    path.write_text(yaml.safe_dump(with_seeds(recipe, 3)))
    killed = programs.run("-c", DRIVER, path, out, STEPS + 3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = read_manifest(out / "seeds" / "8" / "student")
    assert first and read_manifest(out / "seeds" / "9" / "student") is None
    report = run(with_seeds(recipe, 3), out)
    assert read_manifest(out / "seeds" / "8" / "student") == first
    for place, other in zip(places(out).values(), places(three[0]).values(), strict=True):
        assert weights(place) == weights(other)
    assert report["seeds"] == three[1]["seeds"]


def test_without_dev_queries_each_is_fused_untuned(one, recipe, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(one[0], out)
    report = pipeline.run(parse_recipe(with_seeds(recipe, 2, dev=None)), out=out).details
    place = out / "seeds" / "8"
    lexical, dense = Run.load(out / "runs" / "bm25.parquet"), Run.load(place / "runs" / "student.parquet")
    assert Run.load(place / "runs" / "hybrid-student.parquet").pairs == Fusion().fuse(lexical, dense).top(20).pairs
    assert "tune-fusion-seed-8" not in report["stages"] and not (place / "fusion").exists()


def test_seeds_without_test_queries_are_refused(recipe, tmp_path):
    with pytest.raises(UserError, match="seeds=2 trains further students to measure them on test queries"):
        pipeline.run(parse_recipe(with_seeds(recipe, 2, test=None)), out=tmp_path / "run")
    assert not (tmp_path / "run" / "embeddings-start").exists()


def test_of_several_rounds_the_last_is_trained_again(recipe, tmp_path):
    values = {**with_seeds(recipe, 2), "mining": {"rounds": 2, "retrievers": ["start"]}}
    job = open_job(parse_recipe(values), tmp_path)
    [again], (_, last) = further_seeds(job), rounds(job)
    assert again.start == last.start == str(tmp_path / "round-1" / "student")
    assert again.lists == last.lists == tmp_path / "training-lists"
    assert again.recipe == last.recipe.model_copy(update={"seed": last.recipe.seed + 1})
    assert again.out == tmp_path / "seeds" / "8" and last.out == tmp_path
