"""Tasks of the package ``mteb`` through ``benchmark``: its own code on data made here, so that the score is known."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from retrieval_distill import api
from retrieval_distill.errors import UserError
from tests.conftest import sentence

RNG = random.Random(1)
GROUPS = [sentence(RNG, 6) for _ in range(4)]
PAIRS = {
    "sentence1": [sentence(RNG, 5) for _ in range(30)],
    "sentence2": [sentence(RNG, 5) for _ in range(30)],
    "score": [RNG.uniform(0, 5) for _ in range(30)],
}
LABELLED = {"text": GROUPS * 20, "label": list(range(4)) * 20}
QUESTIONS = {"sent1": [GROUPS[:2] * 3], "sent2": [GROUPS[:2] * 2 + GROUPS[2:]], "labels": [[1, 1, 1, 1, 0, 0]]}

DATA = {
    "mteb/stsbenchmark-sts": {"test": PAIRS},
    "mteb/STSBenchmarkv2": {"test": PAIRS, "validation": PAIRS},
    "mteb/banking77": {"train": LABELLED, "test": LABELLED},
    "mteb/twentynewsgroups-clustering": {"test": {"sentences": [GROUPS * 8], "labels": [list("abcd") * 8]}},
    "mteb/sprintduplicatequestions-pairclassification": {"test": QUESTIONS},
}
"""By the address that the tasks have: pairs without rhyme or reason, and four texts, each a class of its own."""


@pytest.fixture(scope="module")
def tasks():
    """The package, reading from ``DATA``."""
    pytest.importorskip("mteb", reason="the extra 'mteb' is not installed")
    from mteb.abstasks import abstask

    kept = abstask.load_dataset
    abstask.load_dataset = lambda path, **_: DatasetDict(
        {split: Dataset.from_dict(columns) for split, columns in DATA[path].items()}
    )
    yield
    abstask.load_dataset = kept


def test_similarity_is_ranked_as_scipy_ranks_it(tasks, encoders, tmp_path):
    """Also under the name of a later version: both stand side by side."""
    report = api.benchmark(
        [encoders["bert"]], on=["mteb:STSBenchmark", "mteb:STSBenchmark.v2"], out=tmp_path, dtype="float32"
    ).plain()
    model = SentenceTransformer(encoders["bert"], device="cpu")
    first, second = (model.encode(PAIRS[side], normalize_embeddings=True) for side in ("sentence1", "sentence2"))
    expected = spearmanr(np.einsum("ij,ij->i", first, second), PAIRS["score"]).statistic
    for name in ("mteb-STSBenchmark", "mteb-STSBenchmark.v2"):
        found = report["tasks"][name][Path(encoders["bert"]).name]
        assert found == {
            "measure": "cosine_spearman",
            "mean": pytest.approx(expected, abs=1e-6),
            "low": None,
            "high": None,
        }


@pytest.mark.parametrize(
    ("task", "measure"),
    [
        ("Banking77Classification", "accuracy"),
        ("TwentyNewsgroupsClustering", "v_measure"),
        ("SprintDuplicateQuestions", "max_ap"),
    ],
)
def test_equal_texts_are_told_from_others(task, measure, tasks, encoders, tmp_path):
    report = api.benchmark([encoders["bert"]], on=[f"mteb:{task}"], out=tmp_path, dtype="float32").plain()
    [found] = report["tasks"][f"mteb-{task}"].values()
    assert found["measure"] == measure
    assert found["mean"] == pytest.approx(1.0)


def test_labels_that_mean_nothing(tasks, encoders, tmp_path, monkeypatch):
    """One text under four labels: a quarter is right whatever the classifier says."""
    alike = {"text": GROUPS[:1] * 80, "label": LABELLED["label"]}
    monkeypatch.setitem(DATA, "mteb/banking77", {"train": alike, "test": alike})
    report = api.benchmark(
        [encoders["bert"]], on=["mteb:Banking77Classification"], out=tmp_path, dtype="float32"
    ).plain()
    [found] = report["tasks"]["mteb-Banking77Classification"].values()
    assert found["mean"] == pytest.approx(0.25)


def test_a_finished_task_is_kept(tasks, encoders, tmp_path, monkeypatch):
    asked = ([encoders["bert"]], ["mteb:STSBenchmark"], tmp_path)
    report = api.benchmark(*asked, dtype="float32")
    monkeypatch.delitem(DATA, "mteb/stsbenchmark-sts")
    assert api.benchmark(*asked, dtype="float32") == report


def test_unknown_tasks_and_lacking_data_are_refused(tasks, encoders, tmp_path, monkeypatch):
    from mteb.abstasks import abstask

    def unreachable(**_):
        raise ConnectionError("couldn't reach 'mteb/stsbenchmark-sts' on the Hub")

    monkeypatch.setattr(abstask, "load_dataset", unreachable)
    for task, message in (
        ("STSBenchmerk", "not found. Did you mean: 'STSBenchmark'"),
        ("STSBenchmark", "couldn't reach"),
    ):
        with pytest.raises(UserError, match=f"^mteb:{task}: .*{message}"):
            api.benchmark([encoders["bert"]], on=[f"mteb:{task}"], out=tmp_path, dtype="float32")
