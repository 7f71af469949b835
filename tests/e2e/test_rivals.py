"""What a run measures its student against: the best that needs no training, at its own best, both sides tuned alike."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.rivals import HYBRIDS
from retrieval_distill.evaluation.significance import holm, paired_p
from retrieval_distill.retrieval import exact, hybrid
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.runtime.stages import read_manifest
from tests.commands import command


@pytest.fixture(scope="module")
def data(tiny_recipe) -> Dataset:
    return beir.load(tiny_recipe["dataset"]["source"])


def test_both_hybrids_are_fused_with_weights_tuned_on_dev(finished, data, tiny_recipe):
    out, report = finished
    models = {"start": tiny_recipe["student"]["model"], "student": str(out / "student")}
    dev = data.queries("dev")
    lexical = BM25(data.documents).search(dev, 20)
    for name, of in HYBRIDS.items():
        dense = exact.search(Embeddings.open(out / f"embeddings-{of}"), models[of], dev, 20)
        tuned = hybrid.tune(lexical, dense, data.qrels("dev"))
        told = report["systems"][name]["fusion"]
        assert (told["tuned"], told["split"]) == (True, "dev")
        assert Fusion(told["method"], told["dense"]) == tuned.chosen
        single = [Run.load(out / "runs" / f"{part}.parquet") for part in ("bm25", of)]
        measured = evaluate(tuned.chosen.fuse(*single).top(20), data.qrels("test"), ["nDCG@10"])
        assert report["systems"][name]["nDCG@10"]["mean"] == pytest.approx(measured["nDCG@10"].mean())
        untuned = evaluate(Fusion("score", 0.5).fuse(*single).top(20), data.qrels("test"), ["nDCG@10"])
        assert told["untuned"]["nDCG@10"]["mean"] == pytest.approx(untuned["nDCG@10"].mean())


def test_the_gate_asks_whether_the_teacher_beats_the_fusion_of_the_report(finished, data, tiny_recipe):
    out, report = finished
    dev, grades = data.queries("dev"), data.qrels("dev")
    vectors = Embeddings.open(out / "embeddings-start")
    single = BM25(data.documents).search(dev, 20), exact.search(vectors, tiny_recipe["student"]["model"], dev, 20)
    fused = Fusion(**json.loads((out / "fusion" / "hybrid-start.json").read_text())["chosen"])
    expected = {"bm25": single[0], "start": single[1], "hybrid-start": fused.fuse(*single)}
    gate = report["distillation"]["gate"]
    assert report["stages"]["gate"]["counts"]["fusion"] == str(fused)
    assert list(gate["against"]) == list(expected)
    for name, run in expected.items():
        own = run.top(20)  # the recipe's gate_depth
        assert gate["against"][name]["baseline"] == pytest.approx(evaluate(own, grades, ["nDCG@10"])["nDCG@10"].mean())
    assert gate["better"] == all(found["low"] > 0 for found in gate["against"].values())


def test_the_student_is_compared_with_the_best_untrained_system(finished):
    _, report = finished
    systems, found = report["systems"], report["distillation"]["best_untrained"]
    means = {name: systems[name]["nDCG@10"]["mean"] for name in ("bm25", "start", "hybrid-start")}
    assert found["system"] == max(means, key=means.get)
    assert found["nDCG@10"] == means[found["system"]]
    student = systems["student"]["nDCG@10"]
    assert found["student_minus"] == pytest.approx(student["mean"] - found["nDCG@10"])
    assert found["p"] == student["p_holm_vs"][found["system"]]
    assert found["low"] <= found["student_minus"] <= found["high"]


def test_its_p_value_is_recomputed_from_the_values_by_query(finished):
    import pandas as pd

    out, report = finished
    values = pd.read_parquet(out / "per_query.parquet").pivot(index="query_id", columns="system", values="nDCG@10")
    names = list(report["systems"])
    p = holm({(a, b): paired_p(values[a].to_numpy(), values[b].to_numpy())
              for i, a in enumerate(names) for b in names[i + 1 :]})  # fmt: skip
    found = report["distillation"]["best_untrained"]
    pair = (found["system"], "student") if (found["system"], "student") in p else ("student", found["system"])
    assert found["p"] == pytest.approx(p[pair])


def test_dev_decides_which_to_use_and_a_search_can_read_it(finished, data):
    out, report = finished
    kept = json.loads((out / "search" / "fusion.json").read_text())
    told = report["systems"]["hybrid-student"]["fusion"]
    assert hybrid.FusionTuning.read(out / "search").chosen == Fusion(told["method"], told["dense"])
    index = read_manifest(out / "index-student")
    assert kept["key"] == hybrid.key(index["fingerprint"], data.documents.fingerprint)
    dev = {name: kept["dev"][name]["nDCG@10"]["mean"] for name in ("student", "hybrid-student")}
    assert kept["use"] == ("hybrid-student" if dev["hybrid-student"] > dev["student"] else "student")
    assert command("search", out, "path file root", "--hybrid", "tuned")  # needs no --tune
    use = report["distillation"]["use"]
    assert (use["system"], use["decided_on"]) == (kept["use"], "dev")
    assert use["nDCG@10"] == report["systems"][kept["use"]]["nDCG@10"]["mean"]


def test_the_start_model_is_measured_at_its_own_length(finished, data, tiny_recipe):
    """The tiny model reads 64 tokens, and the student 48."""
    out, report = finished
    model = tiny_recipe["student"]["model"]
    found = exact.search(Embeddings.open(out / "embeddings-start"), model, data.queries("test"), 20)
    assert Run.load(out / "runs" / "start.parquet").pairs == found.pairs
    assert (report["systems"]["start"]["max_length"], report["systems"]["student"]["max_length"]) == (64, 48)


def test_or_at_the_students_where_the_recipe_says_so(finished, tiny_recipe, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    recipe = {**tiny_recipe, "evaluate": {**tiny_recipe["evaluate"], "start_length": "student"}}
    report = pipeline.run(parse_recipe(recipe), out=out).details
    assert report["systems"]["start"]["max_length"] == 48
    assert not report["stages"]["embed-start"]["skipped"]


def test_without_dev_queries_nothing_is_tuned_and_nothing_decided(finished, tiny_recipe, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    report = pipeline.run(
        parse_recipe({**tiny_recipe, "dataset": {**tiny_recipe["dataset"], "dev": None}}), out=out
    ).details
    assert "tune-fusion" not in report["stages"] and report["distillation"]["use"] is None
    for name in HYBRIDS:
        fusion = report["systems"][name]["fusion"]
        assert (fusion["tuned"], fusion["method"], fusion["dense"]) == (False, "score", 0.5)
        assert fusion["untuned"]["nDCG@10"]["mean"] == report["systems"][name]["nDCG@10"]["mean"]


def test_every_system_is_timed_beside_the_others(finished):
    _, report = finished
    for system in report["systems"].values():
        milliseconds = system["latency_ms"]
        assert 0 < milliseconds["low"] <= milliseconds["p50"] <= milliseconds["high"]
    assert report["systems"]["student"]["timed_as"] == "start"
    assert report["systems"]["hybrid-student"]["index_bytes"] == (
        report["systems"]["student"]["index_bytes"] + report["systems"]["bm25"]["index_bytes"]
    )
    assert np.isfinite(report["systems"]["teacher"]["queries_per_second"])
