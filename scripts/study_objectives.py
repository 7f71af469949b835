"""Which objectives make the better student? Every mix below, three seeds each, at equal cost.

    python scripts/study_objectives.py --out runs/study-objectives --beir ../shared/beir --json runs/study-objectives.json
    python scripts/study_objectives.py --out runs/study-objectives --datasets scifact      # one of the two, killed or not

Per collection the candidates and the starter teacher's scores are made once, as the recipes ``demo`` and
``starter-scifact`` make them; then every mix trains the packaged all-MiniLM-L6-v2 on the same lists, for the same number
of steps, queries and candidates, and is measured on all test queries by exact search. Searched are 3,000 documents of a
collection, all judged ones among them, drawn once, so that the study takes an hour on two cores; figures are therefore
higher than those of whole collections. What is done is kept: the same command continues.

The table says, per collection, the mean nDCG@10 over queries and seeds, its 95 % interval (bootstrap over queries and
seeds), the standard deviation over seeds, and the p-value of a paired randomisation test, over queries, of the means
over seeds against ``REFERENCE``; the last column is the mean over collections.
"""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrieval_distill import api, pipeline
from retrieval_distill.config import Recipe, load_recipe, parse_recipe
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.seed_summary import summarise
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.hardware import devices
from retrieval_distill.pipeline import rounds
from retrieval_distill.pipeline.checks import check
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.pipeline.job import Job
from retrieval_distill.runtime import stages

KL = {"weight": 1.0, "teacher_temperature": 2.0}
MIXES: dict[str, dict[str, Any]] = {
    "in_batch": {"in_batch": 1.0},
    "margin_mse": {"margin_mse": 0.05},
    "listwise_kl": {"listwise_kl": KL},
    "listwise_kl + in_batch": {"listwise_kl": KL, "in_batch": 1.0},
    "listwise_kl + in_batch + margin_mse": {"listwise_kl": KL, "in_batch": 1.0, "margin_mse": 0.02},
    "soft_contrastive": {"soft_contrastive": {"weight": 1.0, "teacher_temperature": 2.0}},
    "rank_net (lambda) + in_batch": {"rank_net": {"weight": 1.0, "weighting": "lambda"}, "in_batch": 1.0},
    "in_batch + 0.3 listwise_kl": {"in_batch": 1.0, "listwise_kl": {**KL, "weight": 0.3}},
}
REFERENCE = "soft_contrastive"
"""The recipes' default."""
MEASURE = "nDCG@10"
TRAINING = {"steps": 24, "queries_per_step": 32, "candidates": 3, "max_length": 64}
LEARNING_RATES = {"python-docs": 1.5e-4, "scifact": 5e-5}
"""The one is far from what the start model knows, the other near."""
SEEDS = (1, 2, 3)
STARTER = [
    "teacher.ensemble=[]", "teacher.weights=given", "teacher.model=starter", "teacher.max_length=128",
    "evaluate.start_length=student",
]  # fmt: skip
"""One teacher in place of the recipe's ensemble."""
DOCUMENTS, MAX_LENGTH = 3000, 128
"""Documents searched, and the tokens of each that are embedded."""


def recipe_of(collection: str, beir: Path) -> Recipe:
    if collection == "python-docs":
        return load_recipe("demo", STARTER)
    return load_recipe("starter-scifact", [f"dataset.source={beir / 'scifact'}"])


def scored(job: Job) -> Run:
    """The teacher's scores of the training candidates, as a run of the recipe makes them."""
    check(job)
    pipeline.embed_start(job)
    pipeline.ask_gate(job)
    [turn] = rounds(job)
    pipeline.retrieve(turn)
    pipeline.score(turn)
    return Run.load(job.out / "teacher-scores" / "run.parquet")


def searched(dataset: Dataset, count: int = DOCUMENTS, split: str = "test") -> Texts:
    """The documents that are searched."""
    judged = dict.fromkeys(doc for docs in dataset.qrels(split).values() for doc in docs)
    others = [id_ for id_ in dataset.documents if id_ not in judged]
    kept = np.random.default_rng(0).permutation(len(others))[: max(0, count - len(judged))]
    return dataset.documents.select([*judged, *(others[row] for row in sorted(kept))])


def measured(model: str, dataset: Dataset, documents: Texts, folder: Path, max_length: int = MAX_LENGTH) -> pd.Series:
    """nDCG@10 by test query; only the values are kept."""
    kept = folder / "values.parquet"
    if not kept.is_file():
        api.embed(documents, model, out=folder / "vectors", max_length=max_length)
        api.index(folder / "vectors", out=folder / "index")
        run = api.search(dataset.queries("test"), folder / "index", model=model, depth=100)
        evaluate(run, dataset.qrels("test"), [MEASURE]).to_parquet(kept)
        shutil.rmtree(folder / "vectors")
        shutil.rmtree(folder / "index")
    return pd.read_parquet(kept)[MEASURE]


def student_of(mix: str, seed: int, recipe: Recipe, lists: Run, dataset: Dataset, folder: Path) -> str:
    values = recipe.model_dump(mode="json")
    training = {**TRAINING, "learning_rate": LEARNING_RATES[dataset.name]}
    values |= {"objectives": MIXES[mix], "seed": seed, "training": training}
    api.distill(lists, dataset, split=recipe.dataset.train, recipe=parse_recipe(values), out=folder)
    return str(folder)


def study(collection: str, out: Path, beir: Path) -> dict[str, list[pd.Series]]:
    """System -> values by query, a series per seed."""
    recipe = recipe_of(collection, beir)
    job = open_job(recipe, out / collection / "base")
    lists, documents = scored(job), searched(job.dataset)
    found = {"start": [measured(recipe.student.model, job.dataset, documents, out / collection / "start")]}
    for seed in SEEDS:
        for mix in MIXES:
            folder = out / collection / mix.replace(" ", "") / str(seed)
            student = folder / "student"
            if not (folder / "values.parquet").is_file():
                student_of(mix, seed, recipe, lists, job.dataset, student)
            values = measured(str(student), job.dataset, documents, folder)
            shutil.rmtree(student, ignore_errors=True)
            found.setdefault(mix, []).append(values)
            print(f"{collection}, seed {seed}, {mix}: {values.mean():.4f}", flush=True)
    return found


def rows_of(collection: str, found: dict[str, list[pd.Series]]) -> list[dict[str, Any]]:
    """A row per system: its mean and interval, and how it stands against ``REFERENCE``."""
    reference = np.mean(found[REFERENCE], axis=0)
    return [
        {
            "collection": collection,
            "system": system,
            **asdict(summarise(np.stack(seeds))),
            "p_vs_reference": None if system == REFERENCE else paired_p(np.mean(seeds, axis=0), reference),
        }
        for system, seeds in found.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    collections = list(dict.fromkeys(row["collection"] for row in rows))
    lines = [f"{'':38}" + "".join(f"{name:^45}" for name in collections) + "  mean"]
    for system in dict.fromkeys(row["system"] for row in rows):
        own = {row["collection"]: row for row in rows if row["system"] == system}
        cells = []
        for row in own.values():
            spread = "" if row["seeds"] == 1 else f"sd {row['standard_deviation']:.4f}"
            p = "" if row["p_vs_reference"] is None else f"p {row['p_vs_reference']:.4f}"
            cells.append(f"{row['mean']:.4f} ({row['low']:.3f}-{row['high']:.3f}) {spread:9} {p:8}")
        lines.append(
            f"{system:38}"
            + "".join(f"{cell:45}" for cell in cells)
            + f"{np.mean([r['mean'] for r in own.values()]):.4f}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study-objectives"))
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"), help="folder that holds scifact")
    parser.add_argument("--datasets", nargs="+", default=["python-docs", "scifact"], choices=["python-docs", "scifact"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = [row for name in args.datasets for row in rows_of(name, study(name, args.out, args.beir))]
    print(f"\n{table(rows)}")
    if args.json:
        stages.write_json(
            args.json,
            {"environment": devices.describe(), "training": TRAINING, "learning_rates": LEARNING_RATES, "rows": rows},
        )


if __name__ == "__main__":
    main()
