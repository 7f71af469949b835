"""Stages of the teachers: whether they can teach, and their scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_distill import api
from retrieval_distill.data import feedback_queries
from retrieval_distill.data.run import Run
from retrieval_distill.pipeline import dev_search
from retrieval_distill.pipeline.fusing import tuned
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.retrieval.hybrid import Fusion
from retrieval_distill.runtime import stages
from retrieval_distill.teacher import dtype_agreement, gate
from retrieval_distill.teacher.calibration.calibration import Calibration
from retrieval_distill.teacher.gate import Gate


def asks_gate(job: Job) -> bool:
    """Whether the gate is asked, for its verdict or to fit the calibration."""
    return job.teacher_config.gate != "off" or gate.needs_fit(job.teacher_config)


def ask_gate(job: Job) -> None:
    """Is the teacher better than BM25, the start model and the two fused, here? Asked before the costly part."""
    config, split, depth = job.teacher_config, job.judged_dev, job.dataset.in_passages(job.recipe.evaluate.depth)
    every = job.dataset.queries(split) if split else job.training_queries
    queries = every.sample(config.gate_queries, job.recipe.seed)
    searched = every if split else queries  # the fusion is tuned on all of them, as the one that is reported

    def work(folder: Path) -> dict[str, Any]:
        lexical, start = dev_search.lexical(job, searched, depth), dev_search.dense(job, "start", searched, depth)
        fusion = tuned(job, job.tuning_split, lexical, start).chosen if job.tuning_split else Fusion()
        rivals = {"bm25": lexical, "start": start, "hybrid-start": fusion.fuse(lexical, start)}
        found = api.gate(
            job.dataset,
            teacher=job.teachers,
            baselines={name: run.select(queries.ids).top(config.gate_depth) for name, run in rivals.items()},
            store=job.store,
            split=split,
            measure=job.recipe.evaluate.measures[0],
            config=config,
        )
        found.save(folder)
        return {**found.facts, "fusion": str(fusion)}

    inputs = {
        "teacher": job.teacher_inputs,
        "queries": [queries.fingerprint, searched.fingerprint],
        "qrels": stages.fingerprint(job.dataset.qrels(split)) if split else None,
        "measure": job.recipe.evaluate.measures[0],
        "start": job.manifests["index-start"]["fingerprint"],
        "retrieve": job.recipe.retrieve.bm25,
        "depths": [config.gate_depth, depth],
        **job.dev_inputs,
    }
    if job.tuning_split is None:
        inputs["fusion"] = str(Fusion())
    job.stage("gate", "gate", inputs, work)
    gate.enforce(Gate.open(job.out / "gate").verdict, config.gate, job.teacher_name)


def score(turn: Round) -> None:
    """The teachers' scores for every candidate: raw into the score store, calibrated for the objectives."""
    job, config = turn.job, turn.job.teacher_config

    def work(folder: Path) -> dict[str, Any]:
        candidates = Run.load(turn.out / "candidates" / "run.parquet")
        known = Gate.open(job.out / "gate").calibration if "gate" in job.manifests else None
        scored = api.score(
            candidates, job.dataset, teacher=job.teachers, store=job.store, calibration=known, config=config
        )
        learnt = scored
        if job.told is not None and job.recipe.feedback is not None:
            learnt = feedback_queries.raised(scored, job.told, job.recipe.feedback.weight)
        learnt.save(folder / "run.parquet")
        counts = {key: scored.facts[key] for key in ("pairs", "scored", "stored", "members")}
        calibration: Calibration = scored.facts["calibration"]
        calibration.save(folder)
        return {**counts, "rank_agreement": _agreement(job, scored.facts["raw"])}

    inputs = {
        "candidates": turn.fingerprint("retrieve"),
        "teacher": job.teacher_inputs,
        "calibration": job.manifests["gate"]["fingerprint"] if "gate" in job.manifests else None,
        **job.feedback_inputs,
    }
    turn.stage("score", "teacher-scores", inputs, work)


def _agreement(job: Job, raw: Sequence[Run]) -> list[Any]:
    """How far each teacher's ranking is that of float32, where it computes in less."""
    found = [
        dtype_agreement.compare_with_float32(member, run, job.training_queries, job.trained.documents)
        for member, run in zip(job.recipe.teacher.members, raw, strict=True)
    ]
    return [agreement for agreement in found if agreement]
