"""Rounds: the student mines for its own training, pays for new pairs only, and a killed run ends the same."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest
import yaml

from retrieval_distill import models, pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.pipeline import rounds
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.pipeline.vectors import embed_retrievers, embed_start
from retrieval_distill.retrieval import exact
from retrieval_distill.runtime.stages import read_manifest
from retrieval_distill.scores.store import ScoreStore
from tests import programs
from tests.commands import program
from tests.e2e.killing import DRIVER


@pytest.fixture(scope="module")
def recipe(tiny_recipe) -> dict:
    return {
        **tiny_recipe,
        "student": {**tiny_recipe["student"], "layers": [0, 3]},  # built once: the second round starts from two layers
        # with scores that lie 1 apart, some of six candidates are beyond this share of the best, and some are not
        "mining": {"retrievers": ["start"], "rounds": 2, "filter": {"share_of_best": 0.8}},
        "teacher": {**tiny_recipe["teacher"], "gate": "off"},
        "training": {**tiny_recipe["training"], "steps": 4, "learning_rate": 5e-3},
    }


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("runs") / "whole"
    path = out.with_name("tiny.yaml")
    path.write_text(yaml.safe_dump(recipe))
    program("run", path, "--out", out)  # as users run it: bytes are compared, and this process is not a fresh one
    return out, json.loads((out / "report.json").read_text())


def test_every_stage_of_every_round_is_reported(finished):
    _, report = finished
    first = [f"{stage}-1" for stage in ("retrieve", "score", "filter", "distill", "embed-student", "index-student")]
    last = ["retrieve", "score", "filter", "distill", "embed-student", "index-student"]
    starts = ["embed-start", "index-start"]
    assert list(report["stages"]) == [*starts, *first, *last, "tune-fusion", "search"]


def test_the_student_of_the_first_round_mines_and_trains_on(finished, recipe):
    out, _ = finished
    job = open_job(parse_recipe(recipe), out)
    _, second = rounds(job)
    student = str(out / "round-1" / "student")
    found = exact.search(Embeddings.open(out / "round-1" / "embeddings-student"), student, job.training_queries, 10)
    assert Run.load(out / "candidates" / "lists" / "start.parquet").pairs == found.pairs
    assert found.pairs != Run.load(out / "round-1" / "candidates" / "lists" / "start.parquet").pairs
    inputs = read_manifest(out / "student")["inputs"]
    assert inputs["model"] == models.fingerprint(student)
    assert second.start == student and second.recipe.student.layers is None
    kept = json.loads((out / "student" / "config.json").read_text()).get("n_layers")
    assert kept == 2


def test_only_new_pairs_are_scored(finished):
    out, report = finished
    first, second = (set(Run.load(path / "candidates" / "run.parquet").pairs) for path in (out / "round-1", out))
    assert first & second and second - first
    counts = report["stages"]["score"]["counts"]
    assert (counts["scored"], counts["stored"]) == (len(second - first), len(first & second))


def test_what_the_filter_removes_is_not_learnt_from(finished):
    out, report = finished
    lists, scored = (Run.load(out / folder / "run.parquet") for folder in ("training-lists", "teacher-scores"))
    assert set(lists.pairs) < set(scored.pairs)
    removed = report["stages"]["filter"]["counts"]["removed"]
    assert (
        removed
        == len(scored) - len(lists)
        == json.loads((out / "training-lists/mining.json").read_text())["removed"]["all"]
    )


def test_killed_in_the_second_round_it_ends_the_same(finished, recipe, tmp_path):
    whole, _ = finished
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(recipe))
    out = tmp_path / "run"
    killed = programs.run("-c", DRIVER, path, out, "6")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = read_manifest(out / "round-1" / "student")
    done = programs.run("-m", "retrieval_distill", "run", path, "--out", out)
    assert done.returncode == 0, done.stderr
    assert read_manifest(out / "round-1" / "student") == first
    for folder in ("round-1", "."):
        weights = Path(folder) / "student" / "model.safetensors"
        assert (out / weights).read_bytes() == (whole / weights).read_bytes()
    pairs = [[teacher["pairs"] for teacher in ScoreStore(run / "scores").teachers()] for run in (out, whole)]
    assert pairs[0] == pairs[1]


def test_a_changed_filter_retrains_but_mines_the_first_round_only_once(finished, recipe, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    job = open_job(parse_recipe({**recipe, "mining": {**recipe["mining"], "filter": {}}}), out)
    embed_start(job)
    pipeline.teach(next(rounds(job)))
    assert [name for name, manifest in job.manifests.items() if not manifest["skipped"]] == ["filter-1", "distill-1"]


def test_other_retrievers_are_embedded_and_their_lists_kept(recipe, encoders, tmp_path):
    mining = {"retrievers": ["bm25", encoders["bert"]], "weights": [1, 2]}
    job = open_job(parse_recipe({**recipe, "mining": mining}), tmp_path)
    embed_retrievers(job)
    [turn] = rounds(job)
    pipeline.retrieve(turn)
    name = Path(encoders["bert"]).name
    assert list(job.manifests) == [f"embed-{name}", f"index-{name}", "retrieve"]
    lists = tmp_path / "candidates" / "lists"
    assert sorted(path.stem for path in lists.iterdir()) == sorted(["bm25", name])
    found = json.loads((tmp_path / "candidates" / "mining.json").read_text())
    assert found["drawn"] == {"top": 24 * 6}
