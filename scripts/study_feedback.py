"""Do clicks make a better student, and does their correction matter? Simulated users of the start model's search.

    python scripts/study_feedback.py --out runs/study-feedback --json runs/study-feedback.json

Of python-docs, ``--documents`` documents are drawn once, those that test queries or ``--queries`` training queries are
judged on among them; the training queries' own judgements are known to the simulated users alone. These ask each query
``--times`` times, see the start model's first ten documents, in a share of the searches with one that changed places with
the first, look at rank r with a probability of 1 / r and click by relevance, with noise (``simulated_users.Users``). Then
one student for each way to read the clicks: as they are (``eta: 0``), corrected by the model (``eta: 1``), corrected by
propensities that the swaps measure (``swaps: true``); all else is equal: the start model (the two lowest layers of the
packaged all-MiniLM-L6-v2: a search that is often wrong), BM25 as teacher, candidates, steps. What is done is kept: the
same command continues.

The table says for each way: the share of queries whose documents taken as relevant are all relevant, the mean over seeds
of nDCG@10 over test queries, its 95 % interval (bootstrap over queries and seeds), the standard deviation over seeds, and
the p-value of a paired randomisation test, over queries, of the means over seeds against clicks as they are.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer
from simulated_users import Users
from study_mining import MEASURE, smaller
from study_mining import Sizes as Documents

from retrieval_distill import api, models, pipeline
from retrieval_distill.config import Recipe, parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.seed_summary import summarise
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.feedback.log import FeedbackLog
from retrieval_distill.hardware import devices
from retrieval_distill.pipeline import rounds
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.runtime import stages

WAYS: dict[str, dict[str, Any]] = {
    "as they are": {"eta": 0.0},
    "1 / rank": {"eta": 1.0},
    "swaps": {"swaps": True},
}
"""How clicks are read -> keys of ``feedback``."""

REFERENCE = "as they are"
USERS = Users(eta=1.0, relevant=0.7, noise=0.1, swaps=0.3)
TRAINING = {
    "queries_per_step": 32, "candidates": 3, "max_length": 64, "agreement_queries": 0, "learning_rate": 3e-4
}  # fmt: skip
WEIGHT = 3.0
"""``feedback.weight``: the teacher is weaker than the clicks."""


@dataclass(frozen=True)
class Sizes:
    """What is drawn and done."""

    documents: int = 600
    queries: int = 300
    times: int = 40
    steps: int = 12
    seeds: int = 3


MAX_LENGTH = 64
"""Tokens of a text that are embedded."""


def start_model(folder: Path) -> Path:
    """The two lowest layers of the packaged model, as a model of their own."""
    if not folder.is_dir():
        model = SentenceTransformer(str(models.resolve("packaged:all-MiniLM-L6-v2")))
        encoder = model[0].auto_model
        encoder.encoder.layer = encoder.encoder.layer[:2]
        encoder.config.num_hidden_layers = 2
        model.save_pretrained(str(folder.with_suffix(".partial")))
        folder.with_suffix(".partial").rename(folder)
    return folder


def recipe_of(source: Path, model: Path, log: Path, way: str, seed: int, steps: int) -> Recipe:
    return parse_recipe(
        {
            "name": "study-feedback", "seed": seed, "dataset": {"source": str(source), "dev": None},
            "feedback": {"log": str(log), "min_clicks": 2, "weight": WEIGHT, **WAYS[way]},
            "retrieve": {"depth": 30, "keep": 6}, "teacher": {"model": "bm25", "gate": "off"},
            "student": {"model": str(model), "max_length": MAX_LENGTH},
            "training": {**TRAINING, "steps": steps},
        }
    )  # fmt: skip


def searched(dataset: Dataset, recipe: Recipe, folder: Path) -> Run:
    """The start model's first documents for the training queries."""
    kept, model = folder / "run.parquet", recipe.student.model
    if not kept.is_file():
        api.embed(dataset.documents, model, out=folder / "embeddings", max_length=MAX_LENGTH)
        api.index(folder / "embeddings", out=folder / "index")
        api.search(dataset.queries("train"), folder / "index", model=model, depth=USERS.depth).save(kept)
    return Run.load(kept)


def clicked(dataset: Dataset, found: Run, path: Path, times: int, seed: int) -> None:
    """The log of one seed's users."""
    if path.is_file():
        return
    relevant = {query: {doc for doc, grade in of.items() if grade > 0} for query, of in dataset.qrels("train").items()}
    texts = {id_: dataset.queries[id_] for id_ in found.query_ids}
    with FeedbackLog.open(path.with_name("partial.db")) as log:
        USERS.search(
            log,
            {texts[id_]: docs for id_, docs, _ in found},
            {texts[id_]: relevant[id_] for id_ in found.query_ids},
            times=times,
            seed=seed,
        )
    path.with_name("partial.db").rename(path)


def right(told: pd.DataFrame, dataset: Dataset) -> float:
    """The share of queries whose documents taken as relevant are all relevant."""
    by_text = {dataset.queries[id_]: of for id_, of in dataset.qrels("train").items()}
    taken = told[told["grade"] > 0]
    true = [by_text[query].get(doc, 0) > 0 for query, doc in zip(taken["query"], taken["doc_id"], strict=True)]
    return float(taken.assign(true=true).groupby("query_id")["true"].all().mean())


def trained(recipe: Recipe, dataset: Dataset, folder: Path, start: Path) -> dict[str, Any]:
    """Train one student; what it reached is kept, the rest goes."""
    kept = folder / "result.json"
    if kept.is_file():
        return stages.read_json(kept)
    for name in ("embeddings", "index"):
        (folder / "run" / f"{name}-start").parent.mkdir(parents=True, exist_ok=True)
        if not (folder / "run" / f"{name}-start").exists():
            (folder / "run" / f"{name}-start").symlink_to((start / name).resolve())
    job = open_job(recipe, folder / "run")
    pipeline.embed_start(job)
    for turn in rounds(job):
        pipeline.teach(turn)
    counts = job.manifests["feedback"]["counts"]
    values = measured(str(job.out / "student"), job.dataset, folder / "measured")[MEASURE]
    result = {"values": values.to_dict(), "right": right(job.told, dataset), "feedback": counts}
    stages.write_json(kept, result)
    shutil.rmtree(folder / "run")
    return result


def measured(model: str, dataset: Dataset, folder: Path) -> pd.DataFrame:
    """The measure by test query."""
    api.embed(dataset.documents, model, out=folder / "vectors", max_length=MAX_LENGTH)
    api.index(folder / "vectors", out=folder / "index")
    run = api.search(dataset.queries("test"), folder / "index", model=model, depth=100)
    return evaluate(run, dataset.qrels("test"), [MEASURE])


def study(out: Path, sizes: Sizes, ways: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Way -> a result per seed; ``start`` among them."""
    whole = load(
        smaller(load("python-docs", out / "cache"), Documents(sizes.documents, sizes.queries), out / "data"), out
    )
    source = out / "without-judgements"
    if not source.is_dir():
        beir.save(whole.replace(qrels={"test": whole.qrels("test")}), source.with_suffix(".partial"))
        source.with_suffix(".partial").rename(source)
    model = start_model(out / "model")
    recipes = {
        (way, seed): recipe_of(source, model, out / f"{seed}" / "feedback.db", way, seed, sizes.steps)
        for seed in range(1, sizes.seeds + 1)
        for way in ways
    }
    found_at_start = searched(whole, recipes[REFERENCE, 1], out / "start")
    before = api.search(whole.queries("test"), out / "start" / "index", model=model, depth=100)
    found = {"start": [{"values": evaluate(before, whole.qrels("test"), [MEASURE])[MEASURE].to_dict()}]}
    for (way, seed), recipe in recipes.items():
        clicked(whole, found_at_start, Path(recipe.feedback.log), sizes.times, seed)
        result = trained(recipe, whole, out / f"{seed}" / way.replace(" ", "").replace("/", "-"), out / "start")
        found.setdefault(way, []).append(result)
        print(
            f"seed {seed}, {way}: {np.mean(list(result['values'].values())):.4f}, right {result['right']:.1%}",
            flush=True,
        )
    return found


def rows_of(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    values = {name: pd.DataFrame([result["values"] for result in results]) for name, results in found.items()}
    reference = values[REFERENCE].mean()
    return [
        {
            "way": way,
            "right": float(np.mean([result["right"] for result in found[way]])) if way != "start" else None,
            **asdict(summarise(by_seed[reference.index].to_numpy())),
            "p_vs_reference": None if way == REFERENCE else paired_p(by_seed.mean()[reference.index], reference),
        }
        for way, by_seed in values.items()
    ]


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        spread = "" if row["seeds"] == 1 else f"sd {row['standard_deviation']:.4f}"
        p = "" if row["p_vs_reference"] is None else f"p {row['p_vs_reference']:.4f}"
        share = "" if row["right"] is None else f"{row['right']:.1%} right"
        lines.append(f"{row['way']:12} {row['mean']:.4f} ({row['low']:.3f}-{row['high']:.3f}) {spread:9} {p:8} {share}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study-feedback"))
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name}", type=int, default=size.default)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), help="as they are among them")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = Sizes(**{size.name: getattr(args, size.name) for size in fields(Sizes)})
    rows = rows_of(study(args.out, sizes, args.ways))
    print(f"\n{table(rows)}")
    if args.json:
        settings = {"users": asdict(USERS), "training": TRAINING, "weight": WEIGHT, **asdict(sizes)}
        stages.write_json(args.json, {"environment": devices.describe(), **settings, "rows": rows})


if __name__ == "__main__":
    main()
