"""Stages that find candidates, of training queries and of dev queries."""

from __future__ import annotations

from pathlib import Path

from retrieval_distill import artifacts
from retrieval_distill.pipeline.job import Job
from retrieval_distill.training.groups import with_relevant


def retrieve(job: Job) -> None:
    """Candidates of the training queries: BM25 and the start model fused, with every relevant document."""
    config = job.recipe.retrieve

    def work(folder: Path) -> dict[str, int]:
        found = job.first_stage(job.training_queries, config.depth).top(config.keep)
        qrels = job.dataset.split(job.train_split)
        candidates = with_relevant(found, {id_: qrels[id_] for id_ in job.training_queries})
        candidates.save(folder / "run.parquet")
        return {"queries": len(candidates.query_ids), "pairs": len(candidates)}

    inputs = {
        "texts": [job.dataset.documents.fingerprint, job.training_queries.fingerprint],
        "qrels": artifacts.fingerprint(job.dataset.split(job.train_split)),
        "start": job.manifests["index-start"]["fingerprint"],
        "retrieve": config.model_dump(),
    }
    job.stage("retrieve", "candidates", inputs, work)


def find_dev(job: Job) -> None:
    """Candidates of the dev queries that the training is evaluated on, where the recipe asks for it."""
    training, depth = job.recipe.training, job.recipe.retrieve.depth
    if not training.evaluate_steps:
        return
    queries = job.drawn(job.dataset.queries_of(job.dev_split()), training.dev_queries)

    def work(folder: Path) -> dict[str, int]:
        found = job.first_stage(queries, depth)
        found.save(folder / "run.parquet")
        return {"queries": len(queries), "pairs": len(found)}

    inputs = {
        "texts": [job.dataset.documents.fingerprint, queries.fingerprint],
        "start": job.manifests["index-start"]["fingerprint"],
        "retrieve": job.recipe.retrieve.model_dump(include={"depth", "k1", "b", "stemmer"}),
    }
    job.stage("retrieve-dev", "dev-candidates", inputs, work)
