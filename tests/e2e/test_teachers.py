"""Teachers as a user meets them: an ensemble in a recipe, the commands around scores, rerankers as a benchmark."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from retrieval_distill import api, pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.scores.store import ScoreStore
from retrieval_distill.teacher.calibration.calibration import Calibration
from tests.commands import command


@pytest.fixture(scope="module")
def bm25(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "bm25.trec"
    api.retrieve(dataset.queries("test"), dataset.documents, depth=20).save(path)
    return path


def test_an_ensemble_in_a_recipe(tiny_recipe, encoders, cross_encoders, tmp_path):
    members = [
        {"model": cross_encoders["bert"], "max_length": 48, "normalise": "temperature"},
        {"model": f"bi-encoder:{encoders['roberta']}", "normalise": "z-score"},
        {"model": "bm25"},
    ]
    teacher = {"ensemble": members, "weights": "fitted", "gate_queries": 10}
    retrieve = {**tiny_recipe["retrieve"], "k1": 0.9, "stemmer": "english"}
    recipe = parse_recipe({**tiny_recipe, "retrieve": retrieve, "teacher": teacher})
    report = pipeline.run(recipe, out=tmp_path).details
    assert report["distillation"]["gate"]["queries"] == 3  # half of the six dev queries; the fit has the others
    found = {teacher["description"]["kind"]: teacher for teacher in ScoreStore(tmp_path / "scores").teachers()}
    assert found.keys() == {"cross-encoder", "bi-encoder", "bm25"}
    assert {key: found["bm25"]["description"][key] for key in recipe.retrieve.bm25} == recipe.retrieve.bm25
    saved = Calibration.from_json(json.loads((tmp_path / "teacher-scores" / "calibration.json").read_text()))
    assert [member.normalise for member in saved.members] == ["temperature", "z-score", "none"]
    candidates = Run.load(tmp_path / "candidates" / "run.parquet")
    data = beir.load(tiny_recipe["dataset"]["source"])
    raw = [
        api.score(candidates, data, teacher=loaded, store=tmp_path / "scores")
        for loaded in (
            api.load_teacher(cross_encoders["bert"], max_length=48),
            api.load_teacher(f"bi-encoder:{encoders['roberta']}", max_length=512),
            api.load_teacher("bm25", documents=data, bm25=recipe.retrieve.bm25),
        )
    ]
    expected = saved.apply(raw).frame
    trained_on = Run.load(tmp_path / "teacher-scores" / "run.parquet").frame
    np.testing.assert_allclose(trained_on["score"], expected["score"], rtol=1e-6)
    assert report["stages"]["score"]["counts"]["members"][0]["pairs"] == len(candidates)


def test_without_judged_dev_queries_the_gate_says_so(tiny_recipe, dataset, tmp_path, caplog):
    undeveloped = Dataset(
        dataset.name, dataset.documents, dataset.queries, {k: dataset.qrels[k] for k in ("train", "test")}
    )
    beir.save(undeveloped, tmp_path / "data")
    recipe = {
        **tiny_recipe,
        "dataset": {"source": str(tmp_path / "data")},
        "training": {"steps": 2, "queries_per_step": 4},
    }
    recipe["teacher"] = {**tiny_recipe["teacher"], "gate": "stop"}
    report = pipeline.run(parse_recipe(recipe), out=tmp_path / "run").details
    assert report["distillation"]["gate"]["better"] is None
    assert "better here is unknown" in caplog.text


def test_scores_of_a_store(dataset, dataset_folder, cross_encoders, bm25, tmp_path):
    store, data = tmp_path / "store", ("--dataset", dataset_folder)
    teacher = ("--teacher", cross_encoders["bert"], "--max-length", 48, "--dtype", "float32")
    command("score", bm25, *data, *teacher, "--store", store, "--out", tmp_path / "scored.parquet")
    text = command("scores", store)
    assert "cross-encoder" in text and f"{len(Run.load(bm25)):,}" in text and "within a query" in text
    [mark] = ScoreStore(store).fingerprints()
    command("scores", store, "--export", tmp_path / "shared.trec", "--teacher", mark[:6], *data)
    scored = Run.load(tmp_path / "scored.parquet")
    np.testing.assert_allclose(Run.load(tmp_path / "shared.trec").frame["score"], scored.frame["score"], rtol=1e-6)
    command("scores", tmp_path / "second", "--import", tmp_path / "shared.trec", *data)
    text = command("scores", tmp_path / "second", "--merge", store, "--verify")
    assert "1 shard taken over" in text and "0 damaged shards" in text
    assert len(ScoreStore(tmp_path / "second").fingerprints()) == 2
    assert "name a teacher; teachers here" in command(
        "scores", tmp_path / "second", "--export", tmp_path / "x.parquet", code=2
    )
    assert "no such score store" in command("scores", tmp_path / "nowhere", code=2)
    assert "--import needs --dataset" in command("scores", store, "--import", tmp_path / "shared.trec", code=2)


def test_precomputed_scores_as_a_teacher(dataset, dataset_folder, bm25, tmp_path):
    data = ("--dataset", dataset_folder, "--store", tmp_path / "store")
    command("score", bm25, *data, "--teacher", f"scores:{bm25}", "--out", tmp_path / "same.parquet")
    np.testing.assert_allclose(
        Run.load(tmp_path / "same.parquet").frame["score"], Run.load(bm25).frame["score"], rtol=1e-6
    )


def test_rerankers_as_a_benchmark(dataset_folder, encoders, cross_encoders, bm25, tmp_path):
    text = command(
        "rerank", bm25, "--dataset", dataset_folder, "--store", tmp_path / "store", "--max-length", 48,
        "--teacher", cross_encoders["bert"], "--teacher", f"bi-encoder:{encoders['bert']}",
        "--depth", 3, "--depth", 10, "--out", tmp_path / "benchmark",
    )  # fmt: skip
    report = json.loads((tmp_path / "benchmark" / "report.json").read_text())
    rows = {(row["reranker"], row["depth"]): row for row in report["systems"]}
    assert len(rows) == 5
    first = rows[None, 0]["nDCG@10"]["mean"]
    shallow, deep = (rows[cross_encoders["bert"], depth] for depth in (3, 10))
    assert deep["pairs"] > shallow["pairs"] and deep["nDCG@10"]["mean"] != first
    assert deep["latency_ms"]["p50"] > 0 and deep["pairs_per_second"] > 0 and deep["peak_memory_bytes"] > 1e8
    assert list(deep["nDCG@10"]["p_vs"]) == ["bm25"]
    kept = Run.load(tmp_path / "benchmark" / "runs" / f"{deep['name']}.parquet")
    measured = api.evaluate(
        {"again": kept},
        beir.load(dataset_folder).qrels("test"),
        measures=["nDCG@10"],
        dataset=beir.load(dataset_folder),
    ).systems
    assert measured["again"]["nDCG@10"]["mean"] == pytest.approx(deep["nDCG@10"]["mean"])
    picture = ElementTree.parse(tmp_path / "benchmark" / "quality-against-cost.svg").getroot()
    names = ["".join(found.itertext()) for found in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert deep["name"] in names and f"{rows[None, 0]['name']}, cost not measured" in names
    assert deep["name"] in text and "one query at a time" in text


def test_rerankers_whose_folders_end_alike_are_two(dataset_folder, cross_encoders, bm25, tmp_path):
    folders = [tmp_path / version / "model" for version in ("v1", "v2")]
    for folder, kind in zip(folders, ("bert", "roberta"), strict=True):
        folder.parent.mkdir()
        folder.symlink_to(cross_encoders[kind])
    text = command(
        "rerank", bm25, "--dataset", dataset_folder, "--store", tmp_path / "store", "--max-length", 48,
        "--teacher", folders[0], "--teacher", folders[1], "--depth", 3, "--out", tmp_path / "benchmark",
    )  # fmt: skip
    report = json.loads((tmp_path / "benchmark" / "report.json").read_text())
    assert [row["name"] for row in report["systems"]] == ["bm25", "bm25+v1-model@3", "bm25+v2-model@3"]
    assert [row["reranker"] for row in report["systems"]] == [None, *map(str, folders)]
    runs = [Run.load(tmp_path / "benchmark" / "runs" / f"bm25+{name}-model@3.parquet") for name in ("v1", "v2")]
    assert runs[0].pairs != runs[1].pairs
    assert "v1-model@3" in text and "v2-model@3" in text


def test_a_benchmark_needs_a_folder(dataset_folder, cross_encoders, bm25, tmp_path):
    assert "leave the ending off" in command(
        "rerank", bm25, "--dataset", dataset_folder, "--store", tmp_path / "s", "--out", tmp_path / "x.trec",
        "--teacher", cross_encoders["bert"], "--depth", 3, "--depth", 4, code=2,
    )  # fmt: skip


def test_fit_teacher_and_use_it(dataset_folder, encoders, bm25, tmp_path):
    text = command(
        "fit-teacher", "--dataset", dataset_folder, "--model", encoders["bert"], "--out", tmp_path / "teacher",
        "--set", "steps=4", "--set", "queries_per_step=4", "--set", "max_length=48", "--set", "evaluate_every=2",
    )  # fmt: skip
    assert "after 4 steps; on 6 dev queries nDCG@10" in text
    command(
        "rerank", bm25, "--dataset", dataset_folder, "--store", tmp_path / "s", "--out", tmp_path / "reranked.trec",
        "--teacher", tmp_path / "teacher", "--depth", 5,
    )  # fmt: skip
    assert len(Run.load(tmp_path / "reranked.trec")) == len(Run.load(bm25))
    assert "did you mean 'loss'" in command(
        "fit-teacher", "--dataset", dataset_folder, "--out", tmp_path / "other", "--set", "los=lambda", code=2
    )
