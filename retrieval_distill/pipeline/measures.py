"""The stages that measure every system: the student, what it has to beat, and its teacher."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from retrieval_distill import api, endpoints
from retrieval_distill.benchmarks import paid, timed_systems
from retrieval_distill.benchmarks.timed_systems import TimedSystem
from retrieval_distill.config import MemberConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation.rivals import HYBRIDS, TEACHER
from retrieval_distill.index.faiss_index import Index
from retrieval_distill.pipeline.fusing import fusions
from retrieval_distill.pipeline.job import Job
from retrieval_distill.retrieval import exact
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.runtime.stages import write_json
from retrieval_distill.teacher import teacher_loader as teachers

UNTUNED = "untuned"
"""Folder of the fused Runs as they are without tuning."""


def measure(job: Job) -> None:
    """Runs of every system over the test queries, the student's scores of the teacher's pool, and their speed."""
    config, queries = job.recipe.evaluate, job.dataset.queries(job.recipe.dataset.measured)

    def work(folder: Path) -> dict[str, Any]:
        runs, scoring = _searched(job, queries, folder)
        counts = runs[TEACHER].facts
        on_pool = exact.rescore(
            runs[TEACHER].top(config.rerank_depth), job.embeddings("student"), job.model("student"), queries,
            job.recipe.student.similarity, job.recipe.embed.dtype,
        )  # fmt: skip
        on_pool.save(folder / "student-on-pool.parquet")
        speeds = timed_systems.measure(_timed(job, queries), queries, job.dataset.documents)
        speeds |= _paid(job, queries, runs, speeds["hybrid-start"]["latency_ms"]["p50"])
        if TEACHER not in speeds and counts["scored"]:
            each = 1000 * config.rerank_depth * scoring / counts["scored"]
            speeds[TEACHER] = {"latency_ms": {"p50": round(each, 3)}, "timed_as": "scoring rate"}
        speeds |= {name: {} for name in job.rerankers if name not in speeds}
        write_json(folder / "speed.json", speeds)
        return {"queries": len(queries), **counts}

    job.stage("search", "runs", _inputs(job, queries), work)


def measure_also(job: Job, split: str) -> None:
    """Runs of every system over the queries of a split beside the test split."""
    queries = job.dataset.queries(split)

    def work(folder: Path) -> dict[str, Any]:
        runs, _ = _searched(job, queries, folder)
        return {"queries": len(queries), **runs[TEACHER].facts}

    job.stage(f"search-{split}", f"runs-{split}", _inputs(job, queries), work)


def _searched(job: Job, queries: Texts, folder: Path) -> tuple[dict[str, Run], float]:
    """Every system's Run, kept in the folder, and the seconds that the teacher took."""
    config, fused_by, depth = job.recipe.evaluate, fusions(job), _depth(job)
    runs = {"bm25": job.lexical(queries, depth)}
    for name in _dense(job):
        runs[name] = job.dense(name, job.model(name), queries, depth)
    untuned = {name: Fusion().fuse(runs["bm25"], runs[of]) for name, of in HYBRIDS.items()}
    for name, of in HYBRIDS.items():
        runs[name] = fused_by[name].fuse(runs["bm25"], runs[of]).top(depth)
        untuned[name].top(depth).save(folder / UNTUNED / f"{name}.parquet")
    pool, start = untuned["hybrid-start"].top(depth), time.monotonic()
    runs[TEACHER] = api.rerank(pool, job.dataset, teacher=job.teacher, store=job.store, depth=config.rerank_depth)
    scoring = time.monotonic() - start
    for name, reranker in job.loaded_rerankers.items():
        runs[name] = api.rerank(pool, job.dataset, teacher=reranker, store=job.store, depth=config.rerank_depth)
    for name, found in runs.items():
        found.save(folder / f"{name}.parquet")
    return runs, scoring


def _inputs(job: Job, queries: Texts) -> dict[str, Any]:
    """What the Runs of these queries depend on."""
    found = {
        "indexes": {name: job.manifests[f"index-{name}"]["fingerprint"] for name in _dense(job)},
        "queries": queries.fingerprint,
        "retrieve": job.recipe.retrieve.bm25,
        "depths": [_depth(job), job.recipe.evaluate.rerank_depth],
        "teacher": job.teacher_inputs,
        "fusion": {name: [fusion.method, fusion.dense] for name, fusion in fusions(job).items()},
        "untuned": str(Fusion()),
    }
    others = {name: teachers.identity(member, job.dataset.documents) for name, member in job.rerankers.items()}
    return {**found, "rerankers": others} if others else found


def _depth(job: Job) -> int:
    """Documents, or passages, retrieved per query."""
    return job.dataset.in_passages(job.recipe.evaluate.depth)


def _dense(job: Job) -> tuple[str, ...]:
    """The bi-encoders measured: the names of their vectors, indexes and results."""
    return ("start", "student", *job.baselines)


def _timed(job: Job, queries: Texts) -> dict[str, TimedSystem]:
    """Every system as it is timed; what answers elsewhere, or from a file, has no speed of its own."""
    documents, dtype, fused_by = job.dataset.documents, job.recipe.embed.dtype, fusions(job)
    found = {"bm25": timed_systems.bm25_system(job.bm25)}
    for name in _here(job):
        index = Index.open(job.out / f"index-{name}")
        found[name] = timed_systems.dense_system(index, job.model(name), dtype, queries, documents)
    for name, of in HYBRIDS.items():
        found[name] = timed_systems.hybrid_system(found["bm25"], found[of], fused_by[name])
    pool = timed_systems.hybrid_system(found["bm25"], found["start"], Fusion())
    depth = job.recipe.evaluate.rerank_depth
    if all(map(_computes_here, job.recipe.teacher.members)):
        found[TEACHER] = timed_systems.reranking_system(pool, job.teachers, documents, depth)
    for name, member in job.rerankers.items():
        if _computes_here(member):
            found[name] = timed_systems.reranking_system(pool, [job.loaded_rerankers[name]], documents, depth)
    return found


def _paid(job: Job, queries: Texts, runs: dict[str, Run], first_ms: float) -> dict[str, dict[str, Any]]:
    """Latency and cost of every system behind an endpoint; ``first_ms`` is what a reranker's first stage takes."""
    here, depth = _here(job), job.recipe.evaluate.rerank_depth
    found = {
        name: paid.dense(Index.open(job.out / f"index-{name}"), job.model(name), queries)
        for name in _dense(job)
        if name not in here
    }
    rerankers = dict(job.rerankers)
    if len(job.members) == 1:
        rerankers[TEACHER] = job.members[0]
    for name, member in rerankers.items():
        if endpoints.is_one(member.model):
            found[name] = paid.reranked(member.model, runs[name], queries, depth, first_ms)
    return {name: facts for name, facts in found.items() if facts}


def _here(job: Job) -> list[str]:
    """Those of the bi-encoders measured that compute on this machine."""
    return [name for name in _dense(job) if not endpoints.is_one(job.model(name))]


def _computes_here(member: MemberConfig) -> bool:
    return teachers.split(member.model)[0] in ("cross-encoder", "bi-encoder", "bm25")
