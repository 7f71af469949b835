"""A run's folder as a finished run leaves it, with every value known; no model is trained or loaded."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from retrieval_distill.config import parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare, rivals
from retrieval_distill.reporting import distillation
from retrieval_distill.reporting import run_folder as run_folders
from retrieval_distill.reporting.report_systems import System
from retrieval_distill.runtime.stages import write_json

STAGES = {stage: folder for stage, folder in run_folders.STAGES.items() if stage not in run_folders.OPTIONAL}
"""Those of a run whose recipe has every section that is on by default."""

EVIL = "<script>alert('x')</script> | *pipe*"
"""A title that is markup in HTML and in Markdown."""

QUERIES = 12

RANKS = {
    "bm25": [3] * QUERIES,
    "start": [2] * 11 + [1],
    "student": [1] * 10 + [3, 4],
    "teacher": [1] * QUERIES,
}
"""Where each system ranks the one relevant document of each test query, in a report from before fusions were measured."""

RIVALS = {
    **{name: RANKS[name] for name in ("bm25", "start")},
    "hybrid-start": [2] * QUERIES,
    "student": RANKS["student"],
    "hybrid-student": [1] * 11 + [4],
    "teacher": RANKS["teacher"],
}
"""The same in a report of today: the student is not shown to be better than its start, its fusion with BM25 is."""

LOG = [
    {"loss": 3.0, "margin_mse": 12.0, "learning_rate": 1e-4, "tokens_per_second": 900.0, "epoch": 0.3, "step": 5},
    {"loss": 2.0, "margin_mse": 8.0, "learning_rate": 5e-5, "tokens_per_second": 1100.0, "epoch": 0.6, "step": 10,
     "eval_nDCG@10": 0.5, "eval_low": 0.4, "eval_high": 0.6, "eval_queries": 9},
    {"loss": 1.5, "margin_mse": 6.0, "learning_rate": 0.0, "tokens_per_second": 1000.0, "epoch": 0.9, "step": 15,
     "eval_nDCG@10": 0.7, "eval_low": 0.6, "eval_high": 0.8, "eval_queries": 9, "kept": True},
]  # fmt: skip


def dataset() -> Dataset:
    documents = [(f"d{i}", EVIL if i == 0 else f"title {i}", f"Text {i}. It splits a path.") for i in range(30)]
    queries = [(f"q{i}", f"query {i} {EVIL}" if i == 11 else f"query {i}") for i in range(QUERIES)]
    queries += [(f"t{i}", f"training query {i}") for i in range(4)]
    test = [(f"q{i}", f"d{i}", 2 if i == 0 else 1) for i in range(QUERIES)]
    return Dataset.from_records(
        "tiny", documents, queries, {"test": test, "train": [(f"t{i}", f"d{i}", 1) for i in range(4)]}
    )


def ranked(ranks: list[int]) -> Run:
    found = {}
    for i, rank in enumerate(ranks):
        docs = [f"d{j}" for j in range(20, 29)]
        docs.insert(rank - 1, f"d{i}")
        found[f"q{i}"] = {doc: 10.0 - place for place, doc in enumerate(docs)}
    return Run.from_dict(found)


def write_run(
    out: Path, source: Path, ranks: dict[str, list[int]] = RANKS, name: str = "tiny", steps: int = 15
) -> Path:
    """The folder of a finished run."""
    recipe = parse_recipe(
        {
            "name": name,
            "dataset": {"source": str(source)},
            "teacher": {"model": "cross-encoder/some-teacher"},
            "student": {"model": "packaged:all-MiniLM-L6-v2"},
            "objectives": {"margin_mse": 0.05},
            "training": {"steps": steps},
            "evaluate": {"measures": ["RR@10", "nDCG@10"], "rerank_depth": 10},
        }
    ).model_dump(mode="json")
    write_json(out / "recipe.json", recipe)
    data, runs = dataset(), {system: ranked(places) for system, places in ranks.items()}
    for system, run in runs.items():
        run.save(out / "runs" / f"{system}.parquet")
    scores = Run.from_dict({f"t{i}": {f"d{i}": 4.0, "d20": -2.0, "d21": -1.0} for i in range(4)})
    scores.save(out / "teacher-scores" / "run.parquet")
    write_json(out / "gate" / "gate.json", GATE)
    write_json(out / "student" / "training_log.json", LOG)
    manifests = {stage: _manifest(stage, number) for number, stage in enumerate(STAGES, 1)}
    for stage, folder in STAGES.items():
        write_json(out / folder / "manifest.json", manifests[stage])
    values = compare.per_query(runs, data.qrels("test"), ["RR@10", "nDCG@10"])
    values.to_parquet(out / "per_query.parquet", index=False)
    write_json(out / "report.json", _report(data, values, manifests, recipe, out))
    return out


GATE = {
    "measure": "RR@10", "queries": 9, "better": True,
    "against": {"bm25": {"baseline": 0.4, "teacher": 0.6, "difference": 0.2, "low": 0.1, "high": 0.3, "p": 0.004}},
}  # fmt: skip


def _manifest(stage: str, number: int) -> dict:
    counts = {"queries": 4, "pairs": 12, "groups": 4, "steps": 15, "parameters": 22_700_000, "dimensions": 384}
    if stage == "distill":
        counts["agreement"] = {"start": {"agreement_kl": 0.9}, "end": {"agreement_kl": 0.25}}
    return {
        "stage": stage, "fingerprint": stage, "seconds": 10.0 * number, "peak_memory_bytes": number * 10**9,
        "counts": counts, "versions": {"torch": "2.13.0"}, "skipped": False,
    }  # fmt: skip


def _distilled(systems: dict, out: Path) -> dict:
    if "hybrid-start" not in systems:
        return {"retention": 0.88, "gain_kept": 0.75, "gate": GATE}
    for name, system in systems.items():
        timed_as = {"student": "start", "hybrid-student": "hybrid-start"}.get(name, name)
        system |= {"trained": name in rivals.TRAINED, "timed_as": timed_as}
    typed = {name: System.model_validate(system) for name, system in systems.items()}
    return distillation.section(typed, "RR@10", out).model_dump(by_alias=True)


def _report(data: Dataset, values: pd.DataFrame, manifests: dict, recipe: dict, out: Path) -> dict:
    systems = {name: {measure: asdict(value) for measure, value in of.items()}
               for name, of in compare.summarise(values).items()}  # fmt: skip
    for name, of in rivals.HYBRIDS.items():
        if name in systems:
            dev = {system: {"RR@10": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}}
                   for system, mean in (("student", 0.7), ("hybrid-student", 0.8))}  # fmt: skip
            systems[name]["fusion"] = {
                "tuned": True, "method": "score", "dense": 0.7, "split": "dev",
                "untuned": {measure: {"mean": 0.6, "low": 0.5, "high": 0.7} for measure in ("RR@10", "nDCG@10")},
                **({"use": "hybrid-student", "dev": dev} if of == "student" else {}),
            }  # fmt: skip
    systems["bm25"] |= {"latency_ms": {"p50": 2.0, "p95": 3.0}, "index_bytes": 1_000_000}
    for name, milliseconds in (("start", 20.0), ("student", 10.0)):
        systems[name] |= {
            "latency_ms": {"p50": milliseconds, "p95": 2 * milliseconds}, "parameters": 22_700_000, "dimensions": 384,
            "model_bytes": 45_400_000, "index_bytes": 4_600_000, "documents_per_second": 150.0,
        }  # fmt: skip
    systems["student"] |= {
        "cold_latency_ms": {"p50": 30.0, "p95": 40.0}, "index_search_ms": {"p50": 0.4, "p95": 0.5},
        "peak_memory_bytes": 2 * 10**9,
        "encode": {
            name: {"tokens": tokens, "documents_per_second": rate, "tokens_per_second": tokens * rate}
            for name, tokens, rate in (("short", 10.0, 1500.0), ("medium", 50.0, 300.0), ("long", 120.0, 99.5))
        },
    }  # fmt: skip
    mean = {"mean": 0.4, "low": 0.3, "high": 0.5}
    document = {"doc_id": "d0", "title": EVIL, "snippet": "Text 0.", "score": 1.0, "grade": 2}
    return {
        "dataset": {"name": "tiny", "docs": 30, "queries": {"test": QUERIES, "train": 4}},
        "systems": systems,
        "distillation": _distilled(systems, out),
        "fidelity": {
            "queries": QUERIES, "depth": 10, "kl": mean, "spearman": None, "kendall": mean, "overlap": {"1": mean},
            "retention": {"mean": 0.88, "low": 0.71, "high": 0.99}, "gain_kept": None,
            "worst": [{"query_id": "q11", "query": "query 11", "teacher": [document], "student": [document]}],
        },
        "minimum_detectable": {"RR@10": 0.123, "nDCG@10": None},
        "stages": {stage: {**costs, "documents_per_second": 5.5} for stage, costs in manifests.items()},
        "environment": {"cpu": "A Processor", "threads": 2, "gpu": None, "versions": {"torch": "2.13.0"}},
        "recipe": recipe,
    }  # fmt: skip


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Path:
    """The data set in BEIR layout."""
    folder = tmp_path_factory.mktemp("source") / "tiny"
    beir.save(dataset(), folder)
    return folder


@pytest.fixture
def run_folder(tmp_path, source) -> Path:
    """A finished run."""
    return write_run(tmp_path / "first", source)


@pytest.fixture
def rivals_folder(tmp_path, source) -> Path:
    """A finished run of today, with fusions."""
    return write_run(tmp_path / "rivals", source, RIVALS)


@pytest.fixture
def finished(run_folder) -> dict:
    """Its report."""
    return json.loads((run_folder / "report.json").read_text())
