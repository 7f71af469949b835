"""A recipe, the same acts from Python and the same from a shell are one implementation: they write the same bytes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

import retrieval_distill as rd
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.retrieval import hybrid
from tests.commands import command

VARIANTS = {
    "plain": {"teacher": {"gate": "off"}},
    "calibrated": {"teacher": {"normalise": "temperature"}},
    "rounds": {"teacher": {"gate": "off"}, "mining": {"rounds": 2}},
    "generated": {
        "teacher": {"gate": "off"},
        "generate": {"ways": {"titles": 1, "sentences": 1}, "min_words": 2, "round_trip": {"retrieval": 20}},
    },
}

ROUND_TWO = {"layers": None, "pooling": None, "dimensions": None, "vocabulary": None, "separate": False, "query_model": None}  # fmt: skip


@pytest.fixture(scope="module", params=list(VARIANTS))
def variant(request, tiny_recipe, tmp_path_factory) -> SimpleNamespace:
    """A recipe with its run."""
    changes = VARIANTS[request.param]
    values = {**tiny_recipe, **changes, "teacher": {**tiny_recipe["teacher"], **changes["teacher"]}}
    values["training"] = {**values["training"], "steps": 4}
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(values))
    recipe = parse_recipe(values)
    rd.run(recipe, out=folder / "run")
    return SimpleNamespace(
        folder=folder, values=values, recipe=recipe, split="generated" if "generate" in values else "train",
        rounds=recipe.mining.rounds, model=values["student"]["model"], teacher=values["teacher"]["model"],
    )  # fmt: skip


def fused(lexical: Run, dense: Run, qrels: dict) -> Run:
    """The two fused as the judgements have it best: what a run's gate compares a teacher with."""
    return hybrid.tune(lexical, dense, qrels).chosen.fuse(lexical, dense).top(20)


def from_python(given: SimpleNamespace, out: Path) -> None:
    """The stages one by one, as a script would write them."""
    recipe, start, store = given.recipe, given.model, out / "scores"
    data = rd.load_dataset(given.values["dataset"]["source"], cache=out / "cache")
    vectors = rd.embed(data.documents, start, out=out / "embeddings-start")
    index = rd.index(vectors, out=out / "index-start")
    first = {"index": index, "model": start}
    if recipe.generate:
        data = rd.generate(data, out=out / "generated", config=recipe.generate, **first)
    teacher, calibration = rd.load_teacher(given.teacher, max_length=48), None
    if recipe.teacher.gate != "off":
        queries = data.queries("dev")
        lexical, dense = rd.retrieve(queries, data, depth=20), rd.search(queries, index, model=start, depth=20)
        baselines = {"bm25": lexical, "start": dense, "hybrid-start": fused(lexical, dense, data.qrels("dev"))}
        options = {"baselines": baselines, "store": store, "config": recipe.teacher}
        calibration = rd.gate(data, teacher=teacher, **options).calibration
    for number in range(given.rounds):
        here = out if number + 1 == given.rounds else out / f"round-{number + 1}"
        pool = rd.mine(
            data, split=given.split, depth=10, keep=6, start=start, indexes={"start": index}, preset="hybrid"
        )
        pool.save(here / "candidates" / "run.parquet")
        scored = rd.score(pool, data, teacher=teacher, store=store, calibration=calibration, config=recipe.teacher)
        scored.save(here / "teacher-scores" / "run.parquet")
        lists = rd.filter_negatives(scored, data, split=given.split)
        changed = {"seed": recipe.seed + number, **({"student": ROUND_TWO} if number else {})}
        student = rd.distill(
            lists, data, out=here / "student", recipe=recipe, model=start, split=given.split, **changed
        )
        start = str(here / "student")
        vectors = rd.embed(data.documents, student, out=here / "embeddings-student")
        index = rd.index(vectors, out=here / "index-student")
    queries = data.queries("test")
    runs = {"bm25": rd.retrieve(queries, data, depth=20), "student": rd.search(queries, index, model=start, depth=20)}
    for name, run in runs.items():
        run.save(out / "runs" / f"{name}.parquet")
    rd.evaluate(runs, data.qrels("test"), dataset=data).to_csv(out / "measures.csv")


def from_the_shell(given: SimpleNamespace, out: Path) -> None:
    """The same as commands."""
    source, start, store, recipe = (
        given.values["dataset"]["source"],
        given.model,
        out / "scores",
        given.folder / "tiny.yaml",
    )
    vectors, index = out / "embeddings-start", out / "index-start"
    command("embed", "--model", start, "--dataset", source, "--out", vectors)
    command("index", vectors, "--out", index)
    if given.recipe.generate:
        made = out / "generated"
        options = ["--set", "min_words=2", "--set", "round_trip.retrieval=20", "--index", index, "--model", start]
        command("generate", "--dataset", source, "--ways", "titles,sentences", *options, "--out", made)
        source = made
    teacher = ["--teacher", given.teacher, "--max-length", 48, "--store", store]
    normalise = ["--set", f"normalise={given.recipe.teacher.normalise}"]
    calibration = []
    if given.recipe.teacher.gate != "off":
        dev = ["--dataset", source, "--depth", 20]
        command("retrieve", *dev, "--split", "dev", "--out", out / "dev" / "bm25.parquet")
        dense = ["--index", index, "--model", start, "--dtype", "auto", "--queries", "dev"]
        command("search", *dev, *dense, "--out", out / "dev" / "start.parquet")
        runs = [out / "dev" / f"{name}.parquet" for name in ("bm25", "start", "hybrid-start")]
        fused(*map(Run.load, runs[:2]), rd.load_dataset(source).qrels("dev")).save(runs[2])
        command("gate", *runs, "--dataset", source, *teacher, *normalise, "--out", out / "gate")
        calibration = ["--calibration", out / "gate"]
    for number in range(given.rounds):
        here = out if number + 1 == given.rounds else out / f"round-{number + 1}"
        asked, found = ["--dataset", source, "--split", given.split], here / "candidates" / "run.parquet"
        retrievers = ["--retriever", "bm25", "--retriever", start, "--index", f"{start}={index}"]
        command("mine", *asked, *retrievers, "--depth", 10, "--keep", 6, "--out", found)
        scored, lists = here / "teacher-scores" / "run.parquet", here / "lists.parquet"
        command("score", found, "--dataset", source, *teacher, *normalise, *calibration, "--out", scored)
        command("filter-negatives", scored, *asked, "--set", "margin=null", "--out", lists)
        options = ["--set", f"seed={given.recipe.seed + number}", "--set", f"student.model={start}"]
        options += [
            f"--set=student.{key}={'null' if value is None else 'false'}" for key, value in ROUND_TWO.items() if number
        ]
        command("distill", lists, *asked, "--recipe", recipe, *options, "--out", here / "student")
        start, vectors, index = here / "student", here / "embeddings-student", here / "index-student"
        command("embed", "--model", start, "--dataset", source, "--out", vectors)
        command("index", vectors, "--out", index)
    test = ["--dataset", source, "--depth", 20]
    runs = [out / "runs" / f"{name}.parquet" for name in ("bm25", "student")]
    command("retrieve", *test, "--split", "test", "--out", runs[0])
    dense = ["--index", index, "--model", start, "--dtype", "auto", "--queries", "test"]
    command("search", *test, *dense, "--out", runs[1])
    command("evaluate", *runs, "--dataset", source, "--split", "test", "--csv", out / "measures.csv")


@pytest.mark.parametrize("route", [from_python, from_the_shell])
def test_the_same_bytes(variant, route, tmp_path):
    """Candidates, scores, weights, vectors, runs and measures."""
    run = variant.folder / "run"
    route(variant, tmp_path)
    same = ["candidates/run.parquet", "teacher-scores/run.parquet", "student/model.safetensors"]
    for number in range(1, variant.rounds):
        same += [f"round-{number}/{name}" for name in same[:3]]
    for name in [*same, "runs/bm25.parquet", "runs/student.parquet"]:
        assert (tmp_path / name).read_bytes() == (run / name).read_bytes(), name
    one, other = (Embeddings.open(folder / "embeddings-student") for folder in (tmp_path, run))
    assert [shard.path.read_bytes() for shard in one.files] == [shard.path.read_bytes() for shard in other.files]
    if variant.split == "generated":
        one, other = (pd.read_parquet(folder / "generated" / "generated.parquet") for folder in (tmp_path, run))
        pd.testing.assert_frame_equal(one, other[list(one)])  # a dataset's folder has the queries' texts elsewhere
    measures = rd.Report.open(run)
    for row in (tmp_path / "measures.csv").read_text().splitlines()[1:]:
        system, mean = row.split(",")[:2]
        assert float(mean) == measures[system]["nDCG@10"].mean
