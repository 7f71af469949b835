"""A recipe that generates its queries holds some out as dev split; they are asked, but choose no weights."""

from __future__ import annotations

import json
import random

import pytest

from retrieval_distill import pipeline
from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.evaluation.rivals import HYBRIDS
from retrieval_distill.reporting.run_folder import RunFolder
from retrieval_distill.search.searcher import Searcher
from tests.conftest import sentence

DOCUMENTS = 40


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> str:
    """Documents of four sentences, each of words that occur nowhere else and of one that occurs in many documents."""
    folder = tmp_path_factory.mktemp("bare") / "corpus"
    rng, words = random.Random(5), (f"word{number}" for number in range(DOCUMENTS * 32))

    def one_sentence() -> str:
        return f"{sentence(rng, 1)} {' '.join(next(words) for _ in range(8))}. ".capitalize()

    documents = [(f"d{number}", "", "".join(one_sentence() for _ in range(4))) for number in range(DOCUMENTS)]
    asked = [(f"asked-{number}", sentence(rng, 3)) for number in range(6)]
    judged = [(query, f"d{number}", 1) for number, (query, _) in enumerate(asked)]
    beir.save(Dataset.from_records("bare", documents, asked, {"test": judged}), folder)
    return str(folder)


@pytest.fixture(scope="module")
def finished(tiny_recipe, bare, tmp_path_factory):
    """A run with an ensemble whose weights are fitted on dev queries, and evaluations while it trains."""
    out = tmp_path_factory.mktemp("runs") / "run"
    members = [{"model": tiny_recipe["teacher"]["model"], "max_length": 48}, {"model": "bm25", "weight": 2}]
    values = {
        **tiny_recipe, "dataset": {"source": bare, "dev_queries": 8},
        "generate": {"ways": {"sentences": 2, "keywords": 1}, "keep": 0.0},
        "teacher": {"weights": "fitted", "ensemble": members, "gate_queries": 10, "gate_depth": DOCUMENTS},
        "training": {**tiny_recipe["training"], "steps": 4, "evaluate_steps": 2},
        "evaluate": {**tiny_recipe["evaluate"], "seeds": 2},
    }  # fmt: skip
    return out, pipeline.run(parse_recipe(values), out=out).details


def test_they_are_asked(finished):
    out, _ = finished
    gate = json.loads((out / "gate" / "gate.json").read_text())
    assert gate["queries"] == 8 and gate["against"].keys() == {"bm25", "start", "hybrid-start"}


def test_but_choose_no_weights(finished):
    """They have their documents' words, so they would choose BM25: scripts/study_fusion.md."""
    out, told = finished
    assert "tune-fusion" not in told["stages"] and told["distillation"]["use"] is None
    assert "search-seed-8" in told["stages"] and "tune-fusion-seed-8" not in told["stages"]
    for name in HYBRIDS:
        assert told["systems"][name]["fusion"]["method"] == "score" and not told["systems"][name]["fusion"]["tuned"]
    weights = json.loads((out / "teacher-scores" / "calibration.json").read_text())["members"]
    assert [(member["normalise"], member["weight"]) for member in weights] == [("z-score", 1.0), ("z-score", 2.0)]
    assert "No dev query of people's is judged" in (out / "report.txt").read_text().replace("\n", " ")
    assert Searcher.open(out).lexical is None


def test_no_dev_query_finds_its_document_by_its_own_words(finished):
    """BM25 would find each document first by its own sentence, and hardly finds it by the one word left of that."""
    out, _ = finished
    assert json.loads((out / "gate" / "gate.json").read_text())["against"]["bm25"]["baseline"] < 0.5


def test_the_folder_tells_the_same_splits(finished):
    out, _ = finished
    dataset = RunFolder.open(out).dataset
    assert len(dataset.qrels["dev"]) == 8 and not set(dataset.qrels["dev"]) & set(dataset.qrels["generated"])
