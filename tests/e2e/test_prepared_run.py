"""A run whose recipe cleans its data first, and one on several datasets: what is measured, and what a search shows."""

from __future__ import annotations

import json
import re

import ir_measures
import pandas as pd
import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.reporting.run_folder import RunFolder
from tests.commands import command

TRAINING = {"steps": 4, "queries_per_step": 8, "candidates": 3, "bf16": False}


def mean_by_ir_measures(run: pd.DataFrame, qrels: dict, measure: str) -> float:
    judged = [ir_measures.Qrel(query, doc, grade) for query, docs in qrels.items() for doc, grade in docs.items()]
    found = [ir_measures.ScoredDoc(*row) for row in run[["query_id", "doc_id", "score"]].itertuples(index=False)]
    return ir_measures.calc_aggregate([ir_measures.parse_measure(measure)], judged, found).popitem()[1]


@pytest.fixture(scope="module")
def cut(tiny_recipe, tmp_path_factory):
    """Documents of up to 40 words, cut at 24 tokens."""
    out = tmp_path_factory.mktemp("runs") / "cut"
    values = {"prepare": {"segment": True, "student_length": 24, "leakage": "off"}, "training": TRAINING}
    return out, pipeline.run(parse_recipe({**tiny_recipe, **values}), out=out).details


def test_documents_are_measured_against_the_original_judgements(cut, dataset):
    out, report = cut
    assert list(report["stages"])[0] == "prepare"
    assert report["dataset"]["docs"] > len(dataset.documents)
    for system in ("bm25", "student", "teacher"):
        run = Run.load(out / "runs" / f"{system}.parquet").frame
        run = run.assign(doc_id=run["doc_id"].str.partition("#")[0])
        best = run.groupby(["query_id", "doc_id"], as_index=False)["score"].max()
        assert len(best) < len(run)
        expected = mean_by_ir_measures(best, dataset.qrels("test"), "nDCG@10")
        assert report["systems"][system]["nDCG@10"]["mean"] == pytest.approx(expected)


def test_the_recipes_splits_models_and_lengths_are_the_default(cut, tiny_recipe):
    told = json.loads((cut[0] / "dataset" / "prepared" / "dataset" / "report.json").read_text())
    assert told["config"]["student"] == tiny_recipe["student"]["model"]
    assert told["config"]["teacher"] == tiny_recipe["teacher"]["model"]
    assert (told["config"]["student_length"], told["config"]["teacher_length"]) == (24, 48)
    assert told["after"]["lengths"]["student"]["documents"]["truncated"] == 0


def test_a_search_shows_documents_once_each(cut, dataset):
    shown = command("search", cut[0], "path file root", "--depth", 20)
    ranks = re.findall(r"^(\d+)\. (.+?)  -?\d\.\d{3}$", shown, re.M)
    assert [int(rank) for rank, _ in ranks] == list(range(1, 21))
    assert "#" not in shown
    found = RunFolder.open(cut[0]).dataset
    pieces = [id_ for id_ in found.documents if "#" in id_]
    assert len(pieces) > 20 and found.parents_of(pieces) == [id_.partition("#")[0] for id_ in pieces]


def test_a_second_run_keeps_all(cut, tiny_recipe):
    out, _ = cut
    recipe = json.loads((out / "recipe.json").read_text())
    again = pipeline.run(parse_recipe(recipe), out=out).details
    assert all(costs["skipped"] for costs in again["stages"].values())


@pytest.fixture(scope="module")
def mixed(tiny_recipe, dataset, tmp_path_factory):
    """The tiny dataset, and another with the same ids."""
    folder = tmp_path_factory.mktemp("mixed")
    other = Dataset.from_records(
        "other",
        [(f"d{i}", "", f"thread lock queue stack number{i} clock zone") for i in range(12)],
        [(f"q{i}", f"number{i} clock") for i in range(10)],
        {"train": [(f"q{i}", f"d{i}", 1) for i in range(6)], "test": [(f"q{i}", f"d{i}", 1) for i in range(6, 10)]},
    )
    beir.save(other, folder / "other")
    sources = {"tiny": {**tiny_recipe["dataset"], "dev": "dev"}, "other": {"source": str(folder / "other")}}
    values = {key: value for key, value in tiny_recipe.items() if key != "dataset"}
    training = {**TRAINING, "dataset_exponent": 0, "dataset_batches": "one"}
    recipe = parse_recipe({**values, "datasets": sources, "training": training})
    return folder / "run", pipeline.run(recipe, out=folder / "run").details


def test_each_query_meets_its_own_documents_only(mixed):
    out, _ = mixed
    for path in (out / "candidates" / "run.parquet", *(out / "runs").glob("*.parquet")):
        pairs = Run.load(path).pairs
        assert {query.partition("/")[0] for query, _ in pairs} == {"tiny", "other"}
        assert all(query.partition("/")[0] == doc.partition("/")[0] for query, doc in pairs)


def test_the_report_measures_each_dataset(mixed, dataset):
    out, report = mixed
    assert report["dataset"]["queries"] == {"train": 30, "dev": 6, "test": 14}
    values = pd.read_parquet(out / "per_query.parquet")
    for name, queries in (("tiny", 10), ("other", 4)):
        for system, found in report["datasets"][name].items():
            own = values[(values["system"] == system) & values["query_id"].str.startswith(f"{name}/")]
            assert len(own) == queries
            assert found["nDCG@10"]["mean"] == pytest.approx(own["nDCG@10"].mean())
    assert "\nother: nDCG@10 of bm25 " in (out / "report.txt").read_text()
    assert "other: nDCG@10 of bm25 " in (out / "report.html").read_text()
    plain = Run.load(out / "runs" / "student.parquet").frame
    plain = plain[plain["query_id"].str.startswith("tiny/")].map(
        lambda v: v.removeprefix("tiny/") if isinstance(v, str) else v
    )
    expected = mean_by_ir_measures(plain, dataset.qrels("test"), "nDCG@10")
    assert report["datasets"]["tiny"]["student"]["nDCG@10"]["mean"] == pytest.approx(expected)


def test_a_search_over_several_names_the_dataset(mixed):
    assert "other/d3" in command("search", mixed[0], "thread lock queue stack number3 clock zone", "--depth", 20)
