"""The stage that measures every system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill import api
from retrieval_distill.benchmarks import speed
from retrieval_distill.data.dataset import Texts
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.pipeline.job import Job
from retrieval_distill.retrieval import exact
from retrieval_distill.retrieval.fusion import reciprocal_rank_fusion
from retrieval_distill.runtime.stages import write_json


def measure(job: Job) -> None:
    """Runs of every system over the test queries, the student's scores of the teacher's pool, and their speed."""
    config = job.recipe.evaluate
    queries, depth = job.dataset.queries_of(job.recipe.dataset.measured), job.dataset.in_passages(config.depth)
    dense = {"start": job.recipe.student.model, "student": str(job.out / "student"), **job.baselines}

    def work(folder: Path) -> dict[str, Any]:
        runs = {"bm25": job.lexical(queries, depth)}
        for name, model in dense.items():
            runs[name] = job.dense(job.out / f"index-{name}", model, queries, depth)
        pool = reciprocal_rank_fusion([runs["bm25"], runs["start"]]).top(depth)
        runs["teacher"], counts = api.rerank(
            pool, queries, job.dataset.documents, job.teacher, job.store, config.rerank_depth
        )
        runs["student-on-pool"] = exact.rescore(
            runs["teacher"].top(config.rerank_depth), job.embeddings("student"), dense["student"], queries,
            job.recipe.student.similarity,
        )  # fmt: skip
        for name, found in runs.items():
            found.save(folder / f"{name}.parquet")
        write_json(folder / "speed.json", _speeds(job, dense, queries))
        return {"queries": len(queries), **counts}

    inputs = {
        "indexes": {name: job.manifests[f"index-{name}"]["fingerprint"] for name in dense},
        "queries": queries.fingerprint,
        "retrieve": job.recipe.retrieve.model_dump(include={"k1", "b", "stemmer"}),
        "depths": [depth, config.rerank_depth],
        "teacher": job.teacher_inputs,
    }
    job.stage("search", "runs", inputs, work)


def _speeds(job: Job, dense: dict[str, str], queries: Texts) -> dict[str, dict[str, Any]]:
    """Speed and size of every retriever by name."""
    measured = {"bm25": speed.lexical(job.bm25, queries)}
    for name, model in dense.items():
        index, dtype = Index.open(job.out / f"index-{name}"), job.recipe.embed.dtype
        measured[name] = speed.dense(index, job.embeddings(name), model, dtype, queries, job.dataset.documents)
    return measured
