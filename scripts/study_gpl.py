"""Does training on generated queries help a retriever on a corpus without any? Cranfield, against three baselines.

    python scripts/study_gpl.py --beir FOLDER --out runs/study-gpl --json runs/study-gpl.json
    python scripts/study_gpl.py --beir FOLDER --out runs/study-gpl-quick --quick     # every step, on a tenth of the data

Cranfield's judgements train nothing. Queries are made from its abstracts without a model (titles, salient sentences), the
shipped starter scores candidates of BM25 and the start model, and the packaged all-MiniLM-L6-v2 learns from them. Of
several ways to train, the one is taken whose student finds most of held-out *generated* queries' documents: 250 documents
that gave no training query, each without the query's text, among 250 others. Test queries (225, graded) are asked last,
over all 1,398 documents, of: BM25, the start model, a student trained as long on MedQuAD's training queries (other
subjects, people's questions), the default student, the taken one, and the teacher reordering BM25 and the start fused.

What is done is kept: the same command continues.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import api, pipeline
from retrieval_distill.config import ReadConfig, Recipe, parse_recipe
from retrieval_distill.data import generated as copies
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.formats import beir
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.evaluation.significance import minimum_detectable_difference
from retrieval_distill.hardware import devices
from retrieval_distill.pipeline.checks import check
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.reporting import generated
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion
from retrieval_distill.runtime import stages

START, MEASURES, SEED = "packaged:all-MiniLM-L6-v2", ("nDCG@10", "RR@10", "R@100"), 7
MAX_LENGTH, TEST_LENGTH, RERANKED = 128, 256, 10
"""Tokens in mining and held-out measuring, tokens in the test, documents that the teacher reorders per test query."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything there is; ``documents`` and ``tested`` of Cranfield, ``None``: all."""

    queries: int = 1024
    held_out: int = 250
    medquad: int = 3000
    documents: int | None = None
    tested: int | None = None


QUICK = Sizes(queries=64, held_out=25, medquad=200, documents=150, tested=20)
STEP = 32
"""Queries of a step of training."""

TRAINING = {"queries_per_step": STEP, "candidates": 3, "max_length": 96, "learning_rate": 2e-5, "agreement_queries": 0}
DEFAULT = "titles + sentences"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "learning rate 5e-5": {"learning_rate": 5e-5},
    "half the steps": {"share_of_steps": 0.5},
    "titles alone": {"ways": ("titles",)},
    "sentences alone": {"ways": ("sentences",)},
    "nothing taken out": {"masked": False},
}
"""Name -> how it differs: options of training, the ways whose queries are used, whether queries are taken out of their
documents. Every one trains on as many steps as the default, but for the one that says so."""


def recipe_of(source: Path, train: str, queries: int, share_of_steps: float = 1, **training: Any) -> Recipe:
    steps = {"steps": int(queries // STEP * share_of_steps)}
    values: dict[str, Any] = {
        "name": "study-gpl", "seed": SEED,
        "dataset": {"source": str(source), "train": train, "dev": None, "train_queries": queries},
        "retrieve": {"depth": 20, "keep": 6},
        "teacher": {"model": "starter", "max_length": 128, "gate": "off"},
        "student": {"model": START, "max_length": MAX_LENGTH},
        "training": {**TRAINING, **steps, **training},
    }  # fmt: skip
    return parse_recipe(values)


def cranfield(source: Path, out: Path, sizes: Sizes) -> tuple[Dataset, Dataset]:
    """Cranfield with its generated queries: those that train, and those that are held out (a query per document)."""
    data = part_of(load(str(source / "cranfield"), out / "cache", ReadConfig(on_bad="skip")), sizes)
    manifest = api.generate(
        data, out=out / "generated", seed=SEED, ways={"titles": 1, "sentences": 1}, keep=0.0
    ).manifest
    print(generated.table(manifest["counts"]), flush=True)
    found = beir.load(out / "generated")
    assert found.generated is not None
    marks = found.generated.to_pandas()
    drawn = np.random.default_rng(SEED).permutation(np.sort(marks["doc_id"].unique()))
    held = {doc: ("titles", "sentences")[turn % 2] for turn, doc in enumerate(drawn[: sizes.held_out])}
    asked = marks[[held.get(doc) == way for doc, way in zip(marks["doc_id"], marks["way"], strict=True)]]
    others = marks[~marks["doc_id"].isin(held)]
    return _only(found, others["query_id"]), _only(found, asked["query_id"])


def part_of(data: Dataset, sizes: Sizes) -> Dataset:
    """As many of the test queries, the documents judged for them, and others up to the number of documents."""
    if sizes.documents is None:
        return data
    test = dict(list(data.qrels("test").items())[: sizes.tested])
    judged = dict.fromkeys(doc for grades in test.values() for doc in grades)
    kept = list(dict.fromkeys([*judged, *data.documents.ids]))[: sizes.documents]
    test = {query: {doc: grade for doc, grade in grades.items() if doc in kept} for query, grades in test.items()}
    return Dataset(data.name, data.documents.select(kept), data.queries.select(list(test)), {"test": test})


def _only(data: Dataset, queries: Sequence[str]) -> Dataset:
    judged = data.qrels(copies.SPLIT)
    return replace(data, qrels={**data.qrels, copies.SPLIT: {query: judged[query] for query in queries}})


def medquad(source: Path, folder: Path, sizes: Sizes) -> None:
    """As many of MedQuAD's training queries, their documents and others."""
    data = beir.load(source / "medquad")
    rng, judged = np.random.default_rng(SEED), data.qrels("train")
    queries = sorted(rng.choice(sorted(judged), sizes.queries, replace=False).tolist())
    relevant = {doc for query in queries for doc in judged[query]}
    others = rng.permutation([doc for doc in data.documents.ids if doc not in relevant]).tolist()
    kept = sorted([*relevant, *others[: sizes.medquad - len(relevant)]])
    part = Dataset("medquad-part", data.documents.select(kept), data.queries.select(queries),
                   {"train": {query: judged[query] for query in queries}, "test": {}})  # fmt: skip
    beir.save(part, folder)


def scored(source: Path, train: str, queries: int, out: Path) -> Job:
    """A run of a recipe as far as the teacher's scores of the training candidates."""
    job = open_job(recipe_of(source, train, queries), out)
    check(job)
    pipeline.embed_start(job)
    turn = Round(job, 1)
    pipeline.retrieve(turn)
    pipeline.score(turn)
    return job


def lists_of(job: Job, ways: Sequence[str] | None, masked: bool) -> Run:
    """The teacher's scores of the candidates, of some ways' queries, each without what it was made of or with it."""
    run = Run.load(job.out / "teacher-scores" / "run.parquet")
    if not masked:
        candidates = Run.load(job.out / "candidates" / "run.parquet")
        run = api.score(candidates, replace(job.dataset, generated=None), teacher=job.teachers, store=job.store)
    return run if ways is None else run.select([id_ for id_ in run.query_ids if id_.startswith(tuple(ways))])


def student(job: Job, options: dict[str, Any], folder: Path) -> str:
    training = {key: value for key, value in options.items() if key not in ("ways", "masked")}
    lists = lists_of(job, options.get("ways"), options.get("masked", True))
    data = job.recipe.dataset
    recipe = recipe_of(Path(data.source), data.train, data.train_queries or 0, **training)
    seen = job.dataset if options.get("masked", True) else replace(job.dataset, generated=None)
    api.distill(lists, seen, split=data.train, recipe=recipe, out=folder)
    return str(folder)


def searched(model: str, documents: Texts, queries: Texts, folder: Path, max_length: int) -> Run:
    kept = folder / "run.parquet"
    if not kept.is_file():
        api.embed(documents, model, out=folder / "vectors", max_length=max_length)
        api.index(folder / "vectors", out=folder / "index")
        api.search(queries, folder / "index", model=model, depth=100).save(kept)
    return Run.load(kept)


def held_out_measure(model: str, asked: Dataset, folder: Path) -> float:
    """RR@10 of the held-out generated queries, over their documents' copies and as many other documents."""
    seen, queries = copies.training_view(asked, copies.SPLIT), asked.queries(copies.SPLIT)
    own = {query: f"{query}:document" for query in queries}
    documents = {doc for judged in asked.qrels(copies.SPLIT).values() for doc in judged}
    others = [doc for doc in asked.documents.ids if doc not in documents]
    drawn = np.random.default_rng(SEED).choice(others, len(own), replace=False).tolist()
    run = searched(model, seen.documents.select([*own.values(), *drawn]), queries, folder, MAX_LENGTH)
    return float(evaluate(run, {query: {doc: 1} for query, doc in own.items()}, ["RR@10"])["RR@10"].mean())


def tested(job: Job, models: dict[str, str], out: Path) -> dict[str, Run]:
    """Runs over the test queries: BM25, the models, and the teacher on what BM25 and the start find."""
    queries, documents = job.dataset.queries("test"), job.dataset.documents
    runs = {"bm25": job.bm25.search(queries, 100)}
    for name, model in models.items():
        runs[name] = searched(model, documents, queries, out / name.replace(" ", "-").replace(":", ""), TEST_LENGTH)
    runs["bm25 + start"] = reciprocal_rank_fusion([runs["bm25"], runs["start"]]).top(100)
    runs["teacher"] = api.rerank(
        runs["bm25 + start"], job.dataset, teacher=job.teacher, store=job.store, depth=RERANKED
    )
    return runs


def table(job: Job, runs: dict[str, Run], student: str) -> dict[str, Any]:
    """The systems' measures, printed."""
    report = api.evaluate(runs, job.dataset.qrels("test"), measures=MEASURES, dataset=job.dataset)
    values = [evaluate(runs[name], job.dataset.qrels("test"), ["nDCG@10"])["nDCG@10"] for name in (student, "start")]
    shown = minimum_detectable_difference((values[0] - values[1]).to_numpy())
    print(f"\n{report}", flush=True)
    print(f"so many queries reliably show differences in nDCG@10 from {shown:.3f} on\n", flush=True)
    return report.systems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study-gpl"))
    parser.add_argument("--beir", type=Path, default=Path("../shared/beir"), help="folder of cranfield and medquad")
    parser.add_argument("--quick", action="store_true", help="small sizes: whether it runs, not what it finds")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    sizes = QUICK if args.quick else Sizes()
    learnt, asked = cranfield(args.beir, args.out, sizes)
    beir.save(learnt, args.out / "learnt")
    job = scored(args.out / "learnt", copies.SPLIT, sizes.queries, args.out / "cranfield")
    students = {DEFAULT: student(job, {}, args.out / "students" / "default")}
    medquad(args.beir, args.out / "medquad-part", sizes)
    other = scored(args.out / "medquad-part", "train", sizes.queries, args.out / "medquad")
    models = {"start": START, "MedQuAD": student(other, {}, args.out / "students" / "medquad")}
    models[f"generated: {DEFAULT}"] = students[DEFAULT]
    table(job, tested(job, models, args.out / "test"), f"generated: {DEFAULT}")

    held_out = {"start": held_out_measure(START, asked, args.out / "held-out" / "start")}
    for name, options in VARIANTS.items():
        folder = "default" if name == DEFAULT else name.replace(" ", "-")
        students[name] = student(job, options, args.out / "students" / folder)
        held_out[name] = held_out_measure(students[name], asked, args.out / "held-out" / folder)
        print(f"{name}: held-out RR@10 {held_out[name]:.4f}", flush=True)
    taken = max(students, key=lambda name: held_out[name])
    models[f"generated: {taken}"] = students[taken]
    print(f"taken by held-out generated queries (start {held_out['start']:.4f}): {taken}", flush=True)
    systems = table(job, tested(job, models, args.out / "test"), f"generated: {taken}")
    if args.json:
        told = {"environment": devices.describe(), "held_out": held_out, "taken": taken, "systems": systems}
        stages.write_json(args.json, told)


if __name__ == "__main__":
    main()
