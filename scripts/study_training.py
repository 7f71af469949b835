"""Which way of training learns most in the same time? One way at a time, on one set of scored candidates.

    python scripts/study_training.py --run runs/demo --calibrate                  # on a quiet machine: seconds per step
    python scripts/study_training.py --run runs/demo --seeds 3 --json runs/study-training.json

``--run`` is the folder of a finished run whose recipe has one teacher run and no rounds, such as ``demo``: its training
candidates and the teacher's scores are used, so every way learns from the same lists. Each way trains for the same number
of seconds (``--seconds``), by the seconds per step that ``--calibrate`` measured and wrote beside the students; the hidden
states of frozen layers are computed within that time. What is done is kept: the same command continues.

Each student embeds 3,000 documents (all those that are judged for the split, others drawn once) and is asked all judged
queries of the split. The table says nDCG@10 of the student and of its fusion with BM25, whose weight is chosen on one half
of the queries and measured on the other, both ways; means over seeds, the standard deviation over seeds, and the p-value
of a paired randomisation test, over queries, of the means over seeds against ``recipe``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from study_objectives import MEASURE, searched

from retrieval_distill import api
from retrieval_distill.config import Recipe, parse_recipe
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.hardware import devices
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime import stages

WAYS: dict[str, dict[str, Any]] = {
    "recipe": {},
    "2 layers frozen": {"frozen_layers": 2},
    "4 layers frozen": {"frozen_layers": 4},
    "64 queries, 2 candidates": {"queries_per_step": 64, "candidates": 2},
    "16 queries, 5 candidates": {"queries_per_step": 16, "candidates": 5},
    "memory of 2,000 documents": {"memory": 2000},
    "stratified": {"draw": "stratified"},
    "average of weights": {"ema": 0.9},
    "residual of BM25": {"lexical_weight": 1.0},
    "learning rate 2.5e-4": {"learning_rate": 2.5e-4},
    "48 tokens": {"max_length": 48},
    "3 candidates scored": {},
    "twice the time": {},
}
SCORED = {"3 candidates scored": 3}
"""Ways that learn from fewer scored candidates than the run has: the relevant ones, then the first stage's best."""
TIMES = {"3 candidates scored": 1.27, "twice the time": 2.0}
"""Ways that train longer: by what the demo's scoring takes less for three candidates than for five, or for comparison."""
REFERENCE = "recipe"
CALIBRATION = 6
"""Steps that are timed, twice: the difference of two trainings leaves out what is done once."""


def train(job_recipe: Recipe, run: Path, dataset: Dataset, steps: int, way: str, seed: int, out: Path) -> Path:
    """A student of one way."""
    values = job_recipe.model_dump(mode="json")
    values |= {"seed": seed, "training": {**values["training"], **WAYS[way], "steps": steps, "agreement_queries": 0}}
    lists = Run.load(run / "teacher-scores" / "run.parquet")
    if way in SCORED:
        first = Run.load(run / "candidates" / "run.parquet")
        lists = fewer(lists, first, dataset.qrels(job_recipe.dataset.train), SCORED[way])
    api.distill(lists, dataset, split=job_recipe.dataset.train, recipe=parse_recipe(values), out=out)
    return out


def fewer(scored: Run, first: Run, qrels: Qrels, count: int) -> Run:
    """``count`` scored candidates of each query: the relevant ones, then the first stage's best."""
    ranked, kept = first.as_dict(), {}
    for query, scores in scored.as_dict().items():
        found, relevant = ranked.get(query, {}), qrels.get(query, {})
        best = sorted(scores, key=lambda doc: (relevant.get(doc, 0) > 0, found.get(doc, -np.inf)), reverse=True)
        kept[query] = {doc: scores[doc] for doc in best[:count]}
    return Run.from_dict(kept)


def calibrate(recipe: Recipe, run: Path, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Seconds of one step, and of what is done once, by way."""
    found = {}
    for way in WAYS:
        with tempfile.TemporaryDirectory() as folder:
            seconds = list[float]()
            for steps in (2, 2, 2 + CALIBRATION):  # the first one only warms up
                begun = time.perf_counter()
                train(recipe, run, dataset, steps, way, 0, Path(folder) / f"{len(seconds)}")
                seconds.append(time.perf_counter() - begun)
        step = (seconds[2] - seconds[1]) / CALIBRATION
        found[way] = {"step": step, "once": max(0.0, seconds[1] - 2 * step)}
        print(f"{way}: {step:.2f} s per step, {found[way]['once']:.1f} s before", flush=True)
    return found


def steps_within(seconds: float, cost: dict[str, float], reference: dict[str, float]) -> int:
    """Steps that a way has time for; what the reference does once too is not counted."""
    return max(1, int((seconds - max(0.0, cost["once"] - reference["once"])) / cost["step"]))


def cross_fitted(lexical: Run, dense: Run, qrels: Qrels) -> pd.Series:
    """nDCG@10 of the fusion by query, its weight from the other half of the queries."""
    queries = sorted(qrels)
    halves = [queries[::2], queries[1::2]]
    parts = []
    for asked, tuning in (halves, halves[::-1]):
        known = {query: qrels[query] for query in tuning}
        chosen = hybrid.tune(lexical.select(tuning), dense.select(tuning), known).chosen
        fused = chosen.fuse(lexical.select(asked), dense.select(asked))
        parts.append(evaluate(fused, {query: qrels[query] for query in asked}, [MEASURE])[MEASURE])
    return pd.concat(parts).sort_index()


def measure(model: str, dataset: Dataset, split: str, documents: Texts, lexical: Run, folder: Path) -> pd.DataFrame:
    """nDCG@10 by query of the student, and of its fusion with BM25; only the values are kept."""
    kept = folder / f"{split}.parquet"
    if not kept.is_file():
        api.embed(documents, model, out=folder / "vectors", max_length=128)
        api.index(folder / "vectors", out=folder / "index")
        dense = api.search(dataset.queries(split), folder / "index", model=model, depth=hybrid.FUSION_DEPTH)
        alone = evaluate(dense, dataset.qrels(split), [MEASURE])[MEASURE].sort_index()
        fused = cross_fitted(lexical, dense, dataset.qrels(split))
        pd.DataFrame({"student": alone, "hybrid-student": fused}).to_parquet(kept)
        for made in ("vectors", "index"):
            shutil.rmtree(folder / made)
    return pd.read_parquet(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/demo"))
    parser.add_argument("--out", type=Path, default=Path("runs/study-training"))
    parser.add_argument("--calibrate", action="store_true", help="only measure the seconds per step")
    parser.add_argument("--seconds", type=float, default=120.0, help="of training, for each student")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--split", default="dev", help="queries that are asked; dev chooses, test is asked once")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    recipe = parse_recipe(json.loads((args.run / "recipe.json").read_text()))
    dataset = open_job(recipe, args.run).dataset
    costs = args.out / "seconds.json"
    if args.calibrate or not costs.is_file():
        args.out.mkdir(parents=True, exist_ok=True)
        stages.write_json(costs, calibrate(recipe, args.run, dataset))
        if args.calibrate:
            return
    seconds = json.loads(costs.read_text())
    documents = searched(dataset, split=args.split)
    lexical = BM25(documents, **recipe.retrieve.bm25).search(dataset.queries(args.split), hybrid.FUSION_DEPTH)
    start = measure(recipe.student.model, dataset, args.split, documents, lexical, args.out / "start")
    found: dict[str, list[pd.DataFrame]] = {"start": [start]}
    steps = {way: steps_within(args.seconds * TIMES.get(way, 1), seconds[way], seconds[REFERENCE]) for way in args.ways}
    for seed in range(1, args.seeds + 1):
        for way in args.ways:
            folder = args.out / way.replace(" ", "-").replace(",", "") / str(seed)
            student = folder / "student"
            if not student.is_dir() or not (folder / f"{args.split}.parquet").is_file():
                train(recipe, args.run, dataset, steps[way], way, seed, student)
            values = measure(str(student), dataset, args.split, documents, lexical, folder)
            found.setdefault(way, []).append(values)
            print(f"seed {seed}, {way}: {values.mean().round(4).to_dict()}", flush=True)
    rows = rows_of(found, {"start": 0, **steps})
    print("\n" + pd.DataFrame(rows).to_markdown(index=False, floatfmt=".4f"))
    if args.json:
        told = {"environment": devices.describe(), "seconds": args.seconds, "cost": seconds, "rows": rows}
        stages.write_json(args.json, told)


def rows_of(found: dict[str, list[pd.DataFrame]], steps: dict[str, int]) -> list[dict[str, Any]]:
    """A row per way: steps, and for both systems mean, spread over seeds and p against the reference."""
    means = {way: sum(seeds) / len(seeds) for way, seeds in found.items()}
    rows = []
    for way, seeds in found.items():
        row: dict[str, Any] = {"way": way, "steps": steps[way]}
        for system in ("student", "hybrid-student"):
            row[system] = float(means[way][system].mean())
            row[f"{system} sd"] = (
                float(np.std([one[system].mean() for one in seeds], ddof=1)) if len(seeds) > 1 else 0.0
            )
            if REFERENCE in means and way != REFERENCE:
                row[f"{system} p"] = paired_p(means[way][system].to_numpy(), means[REFERENCE][system].to_numpy())
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
