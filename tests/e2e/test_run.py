"""A whole run: every stage real, resumable after a real kill, and honest in its report."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from sentence_transformers import SentenceTransformer

from retrieval_distill import api, pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import rivals
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.retrieval import exact
from retrieval_distill.scores.store import ScoreStore
from tests import programs

STAGES = [
    "embed-start",
    "index-start",
    "gate",
    "retrieve",
    "score",
    "filter",
    "distill",
    "embed-student",
    "index-student",
    "tune-fusion",
    "search",
]


def student_bytes(out: Path) -> bytes:
    return (out / "student" / "model.safetensors").read_bytes()


def test_the_report_says_all(finished):
    out, report = finished
    assert report == json.loads((out / "report.json").read_text())
    assert list(report["systems"]) == ["bm25", "start", "hybrid-start", "student", "hybrid-student", "teacher"]
    assert [name for name, system in report["systems"].items() if system["trained"]] == ["student", "hybrid-student"]
    assert report["dataset"] == {"name": "tiny", "docs": 60, "queries": {"dev": 6, "test": 10, "train": 24}}
    assert list(report["stages"]) == STAGES
    for name, system in report["systems"].items():
        for measure in ("nDCG@10", "RR@10", "R@100"):
            value = system[measure]
            assert 0 <= value["low"] <= value["mean"] <= value["high"] <= 1
            assert set(value["p_vs"]) == set(report["systems"]) - {name}
    assert report["systems"]["bm25"]["nDCG@10"]["mean"] > 0.5  # queries are parts of documents
    assert report["systems"]["student"]["parameters"] > 0
    assert report["distillation"]["gate"]["queries"] == 6
    assert "student" in (out / "report.txt").read_text()


def test_the_report_says_how_sure_it_is(finished):
    out, report = finished
    values = pd.read_parquet(out / "per_query.parquet")
    assert list(values.columns) == ["system", "query_id", "nDCG@10", "RR@10", "R@100"]
    for name, rows in values.groupby("system"):
        assert len(rows) == 10
        assert rows["RR@10"].mean() == pytest.approx(report["systems"][name]["RR@10"]["mean"])
    found = report["systems"]["student"]["nDCG@10"]
    assert set(found["p_holm_vs"]) == set(found["p_vs"])
    assert all(found["p_holm_vs"][other] >= p for other, p in found["p_vs"].items())
    assert 0 < report["minimum_detectable"]["nDCG@10"] < 1


def test_the_report_says_how_faithful_the_student_is(finished):
    out, report = finished
    fidelity = report["fidelity"]
    assert (fidelity["depth"], fidelity["queries"]) == (10, 10)
    assert fidelity["temperatures"] == {"teacher": 1.0, "student": pytest.approx(1 / 20)}
    assert -1 <= fidelity["kendall"]["low"] <= fidelity["kendall"]["mean"] <= fidelity["kendall"]["high"] <= 1
    pool = Run.load(out / "runs" / "student-on-pool.parquet")
    assert sorted(pool.pairs) == sorted(Run.load(out / "runs" / "teacher.parquet").top(10).pairs)
    found = Run.load(out / "runs" / "student.parquet").as_dict()
    for query_id, docs in pool.as_dict().items():  # what the index says of a pair, its vectors say
        shared = found[query_id].keys() & docs.keys()
        assert shared
        assert {doc: docs[doc] for doc in shared} == pytest.approx({d: found[query_id][d] for d in shared}, abs=1e-5)
    assert len(fidelity["worst"]) == 10
    row = fidelity["worst"][0]
    for side in ("teacher", "student"):
        scores = [document["score"] for document in row[side]]
        assert len(scores) == 10 and scores == sorted(scores, reverse=True)
    assert {document["doc_id"] for document in row["teacher"]} == {document["doc_id"] for document in row["student"]}
    assert [document["grade"] for document in row["teacher"]].count(1) <= 1


def test_baselines_are_measured_as_the_student_is(finished, tiny_recipe, encoders, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    name = Path(encoders["bert"]).name
    recipe = {**tiny_recipe, "evaluate": {**tiny_recipe["evaluate"], "baselines": [encoders["bert"]]}}
    report = pipeline.run(parse_recipe(recipe), out=out).details
    assert list(report["systems"]) == [*rivals.SYSTEMS, name]
    rerun = [stage for stage, costs in report["stages"].items() if not costs["skipped"]]
    assert rerun == [f"embed-{name}", f"index-{name}", "search"]
    assert not report["systems"][name]["trained"]
    assert report["systems"][name].keys() == report["systems"]["student"].keys()
    assert name in report["systems"]["student"]["nDCG@10"]["p_vs"]
    embedded = Embeddings.open(out / f"embeddings-{name}")
    found = exact.search(embedded, encoders["bert"], queries_of(tiny_recipe), 20)
    assert found.pairs == Run.load(out / "runs" / f"{name}.parquet").pairs
    taken = tmp_path / "bm25"
    taken.mkdir()
    with pytest.raises(UserError, match="would be named 'bm25', like another system"):
        pipeline.run(parse_recipe({**recipe, "evaluate": {"baselines": [str(taken)]}}), out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def queries_of(recipe: dict):
    """The test queries of a recipe's dataset."""
    return beir.load(recipe["dataset"]["source"]).queries("test")


def test_the_page_its_twin_and_the_card_stand_beside_the_report(finished):
    out, report = finished
    student = report["systems"]["student"]["nDCG@10"]
    for file in ("report.html", "report.md", "student/README.md"):
        text = (out / file).read_text(encoding="utf-8")
        assert f"{student['mean']:.3f}" in text and f"{student['low']:.3f}\u2013{student['high']:.3f}" in text
    assert "Not there yet" not in (out / "report.html").read_text(encoding="utf-8")


def test_the_readmes_picture_is_drawn_of_a_run(finished, tmp_path):
    out, picture = finished[0], tmp_path / "demo.svg"
    done = programs.run("scripts/demo_chart.py", out, "--out", picture)
    assert done.returncode == 0, done.stderr
    drawn = picture.read_text(encoding="utf-8")
    assert drawn.startswith("<svg") and all(name in drawn for name in ("bm25", "hybrid-start", "student"))


def test_the_student_is_the_librarys_and_its_vectors_are_ours(finished):
    out, _ = finished
    student = SentenceTransformer(str(out / "student"), device="cpu")
    embedded = Embeddings.open(out / "embeddings-student")
    recipe = json.loads((out / "recipe.json").read_text())
    documents = beir.load(recipe["dataset"]["source"]).documents
    api.embed(documents, str(out / "student"), out=out.parent / "float32", dtype="float32")
    ours = np.concatenate(list(Embeddings.open(out.parent / "float32").shards()))
    np.testing.assert_allclose(ours, student.encode_document(documents.take()), atol=1e-5)
    assert embedded.ids == documents.ids


def test_training_changed_the_student(finished, tiny_recipe):
    out, _ = finished
    start = SentenceTransformer(tiny_recipe["student"]["model"], device="cpu")
    student = SentenceTransformer(str(out / "student"), device="cpu")
    before, after = (model.encode(["path file"], normalize_embeddings=True)[0] for model in (start, student))
    assert not np.allclose(before, after, atol=1e-3)
    log = json.loads((out / "student" / "training_log.json").read_text())
    assert {"loss", "margin_mse", "listwise_kl", "in_batch"} <= set(log[-1])


def test_a_rerun_skips_everything(finished, tiny_recipe, tmp_path):
    out = shutil.copytree(finished[0], tmp_path / "copy")
    before = student_bytes(out)
    again = pipeline.run(parse_recipe(tiny_recipe), out=out).details
    assert all(stage["skipped"] for stage in again["stages"].values())
    assert student_bytes(out) == before


def test_a_changed_option_reruns_what_depends_on_it(finished, tiny_recipe, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(finished[0], out)
    changed = {**tiny_recipe, "training": {**tiny_recipe["training"], "steps": 4}}
    report = pipeline.run(parse_recipe(changed), out=out).details
    rerun = [name for name, stage in report["stages"].items() if not stage["skipped"]]
    assert rerun == ["distill", "embed-student", "index-student", "tune-fusion", "search"]
    assert report["stages"]["search"]["counts"]["scored"] == 0  # the teacher's test scores were in the store
    changed["training"]["steps"] = 6  # a third student in this process: its vectors are its own
    pipeline.run(parse_recipe(changed), out=out)
    Index.open(out / "index-student").require(str(out / "student"))


def test_a_folder_of_another_recipe_is_refused(finished, tiny_recipe, tmp_path):
    with pytest.raises(UserError, match="belongs to recipe 'tiny'"):
        pipeline.run(parse_recipe({**tiny_recipe, "name": "other"}), out=finished[0])
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        pipeline.run(parse_recipe(tiny_recipe), out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


DRIVER = """
import os, signal, sys
from pathlib import Path
import retrieval_distill.teacher.scoring as scoring
from retrieval_distill import pipeline
from retrieval_distill.config import load_recipe
from retrieval_distill.teacher import cross_encoder
from retrieval_distill.scores.store import ScoreStore

scoring.SECONDS_PER_COMMIT = 0
cross_encoder.TOKENS_PER_BATCH["cpu"] = 300
when, count = sys.argv[3], 0

def die_after(owner, name, calls, before=False):
    real = getattr(owner, name)
    def dying(*args, **kwargs):
        global count
        count += Path(sys.argv[2], "gate").is_dir()  # past the gate
        if before and count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if count == calls:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    setattr(owner, name, dying)

if when == "scoring":
    die_after(ScoreStore, "add", 6)
elif when.startswith("training"):
    from retrieval_distill.training import checkpoints, distillation
    # torn: the third checkpoint's files are there, its mark is not
    die_after(distillation.MarkComplete, "on_save", 3, before=when == "training-torn")
elif when == "step":
    from retrieval_distill.training import checkpoints, distillation
    die_after(checkpoints.Advance, "on_step_end", 7)
pipeline.run(load_recipe(sys.argv[1]), out=Path(sys.argv[2]))
"""


@pytest.mark.parametrize("when", ["scoring", "training", "training-torn", "step"])
def test_killed_and_started_again_it_ends_the_same(finished, tiny_recipe, tmp_path, when):
    whole, _ = finished
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tiny_recipe))
    out = tmp_path / "run"
    killed = programs.run("-c", DRIVER, recipe, out, when)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (out / "report.json").exists()
    committed = sum(teacher["pairs"] for teacher in ScoreStore(out / "scores").teachers())
    assert committed > 0
    resumed = programs.run("-c", DRIVER, recipe, out, "never")
    assert resumed.returncode == 0, resumed.stderr
    assert student_bytes(out) == student_bytes(whole)
    scores = Run.load(out / "teacher-scores" / "run.parquet").frame
    np.testing.assert_array_equal(scores, Run.load(whole / "teacher-scores" / "run.parquet").frame)
    # each pair was scored once in all: what the store holds is what the stages asked for
    total = [teacher["pairs"] for teacher in ScoreStore(out / "scores").teachers()]
    assert total == [teacher["pairs"] for teacher in ScoreStore(whole / "scores").teachers()]
    if when == "scoring":
        asked = json.loads((out / "report.json").read_text())["stages"]["score"]["counts"]
        assert asked["stored"] > 0 and asked["scored"] > 0
