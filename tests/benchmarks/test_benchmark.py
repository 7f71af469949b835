"""Benchmarks by name: every number is the one that the single steps give, and what is measured is kept."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from retrieval_distill import api
from retrieval_distill.benchmarks import benchmark
from retrieval_distill.cli import app
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.embedding import embed as embedding
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import macro_mean_with_interval
from tests.conftest import sentence

MEASURES = ("nDCG@10", "R@100")


@pytest.fixture(scope="module")
def folders(dataset, dataset_folder, tmp_path_factory) -> list[str]:
    """The tiny dataset and another one, of 36 of its documents and 6 of its queries."""
    folder = tmp_path_factory.mktemp("other") / "half"
    kept = dataset.documents.ids[:36]
    records = [(id_, *dataset.documents.record(id_)) for id_ in kept]
    queries = [(id_, dataset.queries[id_]) for id_ in dataset.queries]
    judged = {"test": [(q, d, g) for q, docs in dataset.qrels("test").items() for d, g in docs.items() if d in kept]}
    beir.save(Dataset.from_records("half", records, queries, judged), folder)
    return [dataset_folder, str(folder)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> str:
    rng, path = random.Random(1), tmp_path_factory.mktemp("pairs") / "mine.tsv"
    path.write_text("".join(f"{sentence(rng, 5)}\t{sentence(rng, 5)}\t{i}\n" for i in range(12)))
    return str(path)


@pytest.fixture(scope="module")
def finished(folders, pairs, encoders, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("benchmarks") / "whole"
    models = [encoders["bert"], encoders["distilbert"]]
    on = [*folders, f"sts:{pairs}"]
    return out, api.benchmark(models, on=on, out=out, measures=MEASURES, depth=20, dtype="float32").plain()


def test_every_system_on_every_dataset(finished, folders, encoders, dataset):
    out, report = finished
    names = ["bm25", Path(encoders["bert"]).name, Path(encoders["distilbert"]).name]
    assert list(report["datasets"]) == ["tiny", "half"]
    for part in report["datasets"].values():
        assert list(part["systems"]) == names
    kept = Run.load(out / "tiny" / "bm25" / "run.parquet")
    assert kept.pairs == api.retrieve(dataset.queries("test"), dataset.documents, depth=20).pairs
    measured = api.evaluate({"bm25": kept}, dataset.qrels("test"), measures=MEASURES, dataset=dataset).systems["bm25"][
        "nDCG@10"
    ]
    assert report["datasets"]["tiny"]["systems"]["bm25"]["nDCG@10"]["mean"] == measured["mean"]
    assert list(report["tasks"]) == ["sts-mine"] and set(report["tasks"]["sts-mine"]) == set(names[1:])
    assert report == json.loads((out / "benchmark.json").read_text())


def test_the_average_counts_datasets_alike(finished, encoders):
    out, report = finished
    model = Path(encoders["bert"]).name
    values = [pd.read_parquet(out / name / "per_query.parquet") for name in ("tiny", "half")]
    groups = [frame.loc[frame["system"] == model, "nDCG@10"].to_numpy() for frame in values]
    assert [len(group) for group in groups] == [10, 6]
    expected = macro_mean_with_interval(groups)
    assert report["average"][model]["nDCG@10"] == vars(expected)
    assert expected.mean == pytest.approx(np.mean([group.mean() for group in groups]))
    assert benchmark.average({"tiny": values[0]}, MEASURES) == {}


def test_a_longer_list_measures_only_what_is_new(finished, folders, encoders, tmp_path, monkeypatch):
    whole, report = finished
    out = tmp_path / "copy"
    shutil.copytree(whole, out)
    shutil.rmtree(out / "half" / Path(encoders["bert"]).name / "search")
    shutil.rmtree(out / "half" / "bm25")
    searched, embedded = [], []
    monkeypatch.setattr(benchmark.exact, "search", _noting(searched, benchmark.exact.search))
    monkeypatch.setattr(embedding, "_embed", _noting(embedded, embedding._embed))
    again = api.benchmark([encoders["bert"], encoders["distilbert"], encoders["roberta"]], on=folders, out=out, measures=MEASURES, depth=20, dtype="float32").plain()  # fmt: skip
    assert len(embedded) == 2  # the new model on two datasets
    assert len(searched) == 3  # and the search that was lost
    for name in report["datasets"]:
        for system, numbers in report["datasets"][name]["systems"].items():
            assert again["datasets"][name]["systems"][system]["nDCG@10"]["mean"] == numbers["nDCG@10"]["mean"]


def _noting(calls, function):
    def noted(*arguments, **options):
        calls.append(arguments)
        return function(*arguments, **options)

    return noted


def test_on_the_command_line(folders, encoders, dataset, tmp_path):
    for folder in folders:
        data = beir.load(folder)
        perfect = {q: dict.fromkeys(docs, 1.0) for q, docs in data.qrels("test").items()}
        Run.from_dict(perfect).save(tmp_path / f"oracle-{data.name}.trec")
    arguments = ["benchmark", encoders["bert"], "--on", folders[0], "--on", folders[1], "--out", str(tmp_path / "out")]
    arguments += ["--run", f"oracle={tmp_path}/oracle-{{dataset}}.trec", "--measure", "nDCG@10", "--dtype", "float32"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    report = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    for part in report["datasets"].values():
        assert part["systems"]["oracle"]["nDCG@10"]["mean"] == 1.0
    text = (tmp_path / "out" / "benchmark.txt").read_text()
    [row] = [line for line in text.splitlines() if "oracle" in line and "│" in line]
    assert row.count("1.000 (1.000-1.000)") == 3  # two datasets and their average
    assert "average" in text and "Holm" in text


def test_names_of_what_is_no_retrieval():
    """A file's ending is not part of its name, a version is part of a task's."""
    sources = ["sts:data/mine.tsv", "mteb:STSBenchmark", "mteb:STSBenchmark.v2"]
    assert list(benchmark._name_sources(sources)) == ["sts-mine", "mteb-STSBenchmark", "mteb-STSBenchmark.v2"]


def test_what_is_refused(folders, encoders, pairs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)  # as if it were not installed
    foreign, out = tmp_path / "foreign.trec", tmp_path / "out"
    Run.from_dict({"other": {"d1": 1.0}}).save(foreign)
    for arguments, message in (
        (([], folders, out, {"mine": "run.trec"}), "put {dataset} where"),
        (([], [folders[0], folders[0]], out), "'tiny' is already the name of"),
        (([encoders["bert"]] * 2, folders, out), "like another system"),
        (([], folders[:1], out, {"mine": str(foreign)}), "answers none of the"),
        (([encoders["bert"]], ["mteb:STSBenchmark"], out), r"pip install 'retrieval-distill\[mteb\]'"),
    ):
        with pytest.raises(UserError, match=message):
            api.benchmark(arguments[0], on=arguments[1], out=arguments[2], runs=dict(*arguments[3:]))
