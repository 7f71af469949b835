"""Which candidates make the better student? Every mining preset, and two rounds, at equal cost of training.

    python scripts/study_mining.py --out runs/study-mining --beir ../shared/beir --json runs/study-mining.json
    python scripts/study_mining.py --out runs/study-mining --datasets scifact      # one of the two, killed or not
    python scripts/study_mining.py --out runs/study-mining-longer --datasets scifact --documents 3000 --queries 800
        --steps 25 --systems hybrid hybrid-filtered random "hybrid, 2 rounds"      # fewer systems, trained longer

Per collection ``--documents``, those that test queries or training queries are judged on among them, and ``--queries`` for
training are drawn once; mining and measuring see only these. Every preset (``retrieval_distill.config.PRESETS``), and
``hybrid`` in two rounds of half the steps, is a recipe of its own: the same packaged all-MiniLM-L6-v2, the same number of
candidates, steps and queries per step, the starter as teacher. One score store is shared, so that pairs that several
presets ask for are paid for once; the table says how many each would have to pay for alone. What is done is kept: the same
command continues.

The table says, per collection, the mean nDCG@10 over queries and seeds, its 95 % interval (bootstrap over queries and
seeds), the standard deviation over seeds, the p-value of a paired randomisation test, over queries, of the means over
seeds against ``REFERENCE``, and the cost: teacher pairs, and the share of negatives that the teacher scores at least as
high as the positive.
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

from retrieval_distill import api, pipeline
from retrieval_distill.config import PRESETS, Recipe, load_recipe, parse_recipe
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.seed_summary import summarise
from retrieval_distill.evaluation.significance import paired_p
from retrieval_distill.hardware import devices
from retrieval_distill.pipeline import rounds
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.pipeline.job import Job
from retrieval_distill.runtime import stages

REFERENCE = "hybrid"
TWO_ROUNDS = "hybrid, 2 rounds"
SYSTEMS: dict[str, Any] = {**{name: name for name in PRESETS}, TWO_ROUNDS: {"preset": "hybrid", "rounds": 2}}
MEASURE = "nDCG@10"
MAX_LENGTH = 96
"""Tokens of a text that are embedded or scored."""


@dataclass(frozen=True)
class Sizes:
    """Documents and training queries of a collection, and steps of all rounds together."""

    documents: int = 1500
    queries: int = 320
    steps: int = 10


TRAINING = {"queries_per_step": 32, "candidates": 3, "max_length": 64, "agreement_queries": 0}
KEEP = 6
"""Candidates of a query, its relevant documents aside."""
LEARNING_RATES = {"python-docs": 1.5e-4, "scifact": 5e-5}
"""The one is far from what the start model knows, the other near; as in ``study_objectives.py``."""


def smaller(dataset: Dataset, sizes: Sizes, folder: Path) -> str:
    """A folder with as much of the dataset as is used."""
    if not folder.is_dir():
        rng = np.random.default_rng(0)
        train = {query: docs for query, docs in dataset.qrels("train").items() if any(docs.values())}
        chosen = sorted(rng.permutation(len(train))[: sizes.queries])
        splits = {"train": {list(train)[row]: train[list(train)[row]] for row in chosen}, "test": dataset.qrels("test")}
        judged = dict.fromkeys(doc for qrels in splits.values() for docs in qrels.values() for doc in docs)
        others = [id_ for id_ in dataset.documents if id_ not in judged]
        drawn = [others[row] for row in sorted(rng.permutation(len(others))[: max(sizes.documents - len(judged), 0)])]
        part = Dataset(dataset.name, dataset.documents.select([*judged, *drawn]), dataset.queries, splits)
        beir.save(part, folder.with_suffix(".partial"))
        folder.with_suffix(".partial").rename(folder)
    return str(folder)


def recipe_of(collection: str, source: str, system: str, seed: int, steps: int) -> Recipe:
    values = load_recipe("demo" if collection == "python-docs" else "starter-scifact").model_dump(mode="json")
    return parse_recipe(
        {
            **values, "seed": seed, "mining": SYSTEMS[system],
            "dataset": {"source": source, "dev": None},
            "retrieve": {"depth": 30, "keep": KEEP},
            "student": {**values["student"], "max_length": MAX_LENGTH},
            "teacher": {"model": "starter", "max_length": MAX_LENGTH, "gate": "off"},
            "training": {**TRAINING, "steps": steps // (1 + (system == TWO_ROUNDS)), "learning_rate": LEARNING_RATES[collection]},
        }
    )  # fmt: skip


def measured(model: str, dataset: Dataset, folder: Path) -> pd.Series:
    """nDCG@10 by test query; the vectors go."""
    api.embed(dataset.documents, model, out=folder / "vectors", max_length=MAX_LENGTH)
    api.index(folder / "vectors", out=folder / "index")
    run = api.search(dataset.queries("test"), folder / "index", model=model, depth=100)
    shutil.rmtree(folder)
    return evaluate(run, dataset.qrels("test"), [MEASURE])[MEASURE]


@dataclass
class OneOfMany(Job):
    """A job that shares its score store and the start model's vectors with the others of its collection."""

    @property
    def store(self) -> Path:
        """The collection's."""
        return self.out.parents[2] / "scores"

    def share(self) -> None:
        """Make the start model's vectors, or find them made."""
        self.out.mkdir(parents=True, exist_ok=True)
        pipeline.embed_start(base := open_job(self.recipe, self.out.parents[2] / "base"))
        for folder in ("embeddings-start", "index-start"):
            if not (self.out / folder).exists():
                (self.out / folder).symlink_to((base.out / folder).resolve())


def trained(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train one student; its values by query and its costs are kept, the rest goes."""
    kept = folder / "result.json"
    if kept.is_file():
        return stages.read_json(kept)
    job = OneOfMany(recipe, folder / "run", open_job(recipe, folder / "run").dataset)
    job.share()
    pipeline.embed_start(job)
    pairs: set[tuple[str, str]] = set()
    for turn in rounds(job):
        if turn.before:
            pipeline.embed_student(turn.before)
        pipeline.teach(turn)
        pairs |= set(Run.load(turn.out / "candidates" / "run.parquet").pairs)
    values = measured(str(job.out / "student"), job.dataset, folder / "measured")
    found = [stages.read_json(job.out / stage / "mining.json") for stage in ("candidates", "training-lists")]
    spent = {name: manifest["seconds"] for name, manifest in job.manifests.items() if not manifest["skipped"]}
    result = {"values": values.to_dict(), "pairs": len(pairs), "seconds": spent, "mining": found}
    stages.write_json(kept, result)
    shutil.rmtree(folder / "run")
    return result


def study(
    collection: str, out: Path, beir_folder: Path, seeds: int, sizes: Sizes, systems: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """System -> a result per seed."""
    source = "python-docs" if collection == "python-docs" else str(beir_folder / collection)
    source = smaller(load(source, out / "cache"), sizes, out / collection / "data")
    start = recipe_of(collection, source, REFERENCE, 1, sizes.steps)
    found = {"start": [{"values": kept_start(start, out / collection / "start").to_dict()}]}
    for seed in range(1, seeds + 1):
        for system in systems:
            folder = out / collection / system.replace(", ", "-").replace(" ", "-") / str(seed)
            result = trained(recipe_of(collection, source, system, seed, sizes.steps), folder)
            found.setdefault(system, []).append(result)
            mean = np.mean(list(result["values"].values()))
            print(f"{collection}, seed {seed}, {system}: {mean:.4f}, {result['pairs']:,} pairs", flush=True)
    return found


def kept_start(recipe: Recipe, folder: Path) -> pd.Series:
    """The start model's values by query."""
    kept = folder / "values.parquet"
    if not kept.is_file():
        values = measured(recipe.student.model, load(recipe.dataset.source, folder / "cache"), folder / "measured")
        values.to_frame().to_parquet(kept)
    return pd.read_parquet(kept)[MEASURE]


def rows_of(collection: str, found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """A row per system: its mean and interval, how it stands against ``REFERENCE``, and what it cost."""
    values = {name: pd.DataFrame([result["values"] for result in results]) for name, results in found.items()}
    reference = values[REFERENCE].mean()
    return [
        {
            "collection": collection,
            "system": system,
            **asdict(summarise(by_seed[reference.index].to_numpy())),
            "p_vs_reference": None if system == REFERENCE else paired_p(by_seed.mean()[reference.index], reference),
            **costs(found[system]),
        }
        for system, by_seed in values.items()
    ]


def costs(results: list[dict[str, Any]]) -> dict[str, float]:
    """Means over seeds; nothing for a system that was not trained."""
    if "pairs" not in results[0]:
        return {}
    return {
        "pairs": float(np.mean([result["pairs"] for result in results])),
        "false_negatives": float(np.mean([result["mining"][1]["false_negatives"] for result in results])),
        "removed": float(np.mean([result["mining"][1]["removed"]["all"] for result in results])),
    }


def table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        cost = (
            "" if "pairs" not in row else f"{row['pairs']:7,.0f} pairs, {row['false_negatives']:5.1%} false negatives"
        )
        spread = "" if row["seeds"] == 1 else f"sd {row['standard_deviation']:.4f}"
        p = "" if row["p_vs_reference"] is None else f"p {row['p_vs_reference']:.4f}"
        lines.append(
            f"{row['collection']:12} {row['system']:18} {row['mean']:.4f} ({row['low']:.3f}-{row['high']:.3f}) "
            f"{spread:9} {p:8} {cost}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study-mining"))
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"), help="folder that holds scifact")
    parser.add_argument("--datasets", nargs="+", default=["python-docs", "scifact"], choices=["python-docs", "scifact"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=list(SYSTEMS), help="with hybrid")
    for size in fields(Sizes):
        parser.add_argument(f"--{size.name}", type=int, default=size.default)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = Sizes(args.documents, args.queries, args.steps)
    rows = []
    for name in args.datasets:
        rows += rows_of(name, study(name, args.out, args.beir, args.seeds, sizes, args.systems))
    print(f"\n{table(rows)}")
    if args.json:
        settings = {"training": TRAINING, **asdict(sizes), "keep": KEEP, "learning_rates": LEARNING_RATES}
        stages.write_json(args.json, {"environment": devices.describe(), **settings, "rows": rows})


if __name__ == "__main__":
    main()
