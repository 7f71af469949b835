"""Stages of the teachers: whether they can teach, and their scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill.data import generated
from retrieval_distill.data.run import Run
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import write_json
from retrieval_distill.teacher import gate, precision
from retrieval_distill.teacher.calibration.calibration import Calibration


def asks_gate(job: Job) -> bool:
    """Whether the gate is asked, for its verdict or to fit the calibration."""
    return job.recipe.teacher.gate != "off" or gate.needs_fit(job.recipe.teacher)


def ask_gate(job: Job) -> None:
    """Is the teacher better than the start model and BM25 on this corpus? Asked before the costly part."""
    config, (queries, qrels) = job.recipe.teacher, job.gate_queries

    def work(folder: Path) -> dict[str, Any]:
        start = job.dense(job.out / "index-start", job.recipe.student.model, queries, config.gate_depth)
        baselines = {"bm25": job.lexical(queries, config.gate_depth), "start": start}
        raw, counts = job.raw_scores(gate.union(baselines), queries)
        verdict, calibration = gate.ask(job.teachers, raw, baselines, qrels, config, job.recipe.evaluate.measures[0])
        write_json(folder / "gate.json", verdict)
        write_json(folder / "calibration.json", calibration.to_json())
        return counts

    inputs = {
        "teacher": job.teacher_inputs,
        "queries": queries.fingerprint,
        "qrels": stages.fingerprint(qrels),
        "measure": job.recipe.evaluate.measures[0],
        "start": job.manifests["index-start"]["fingerprint"],
        "retrieve": job.recipe.retrieve.model_dump(include={"k1", "b", "stemmer"}),
        "depth": config.gate_depth,
    }
    job.stage("gate", "gate", inputs, work)
    gate.apply(stages.read_json(job.out / "gate" / "gate.json"), config.gate, job.teacher_name)


def score(turn: Round) -> None:
    """The teachers' scores for every candidate: raw into the score store, calibrated for the objectives."""
    job, config = turn.job, turn.job.recipe.teacher

    def work(folder: Path) -> dict[str, Any]:
        candidates = generated.renamed(Run.load(turn.out / "candidates" / "run.parquet"), job.dataset)
        raw, counts = job.raw_scores(candidates, job.training_queries)
        if "gate" in job.manifests:
            calibration = Calibration.from_json(stages.read_json(job.out / "gate" / "calibration.json"))
        else:
            calibration = gate.calibrate(job.teachers, raw, None, config)
        write_json(folder / "calibration.json", calibration.to_json())
        calibration.apply(raw).save(folder / "run.parquet")
        agreement = [
            precision.against_float32(member, run, job.training_queries, job.trained.documents)
            for member, run in zip(config.members, raw, strict=True)
        ]
        return {**counts, "rank_agreement": [found for found in agreement if found]}

    inputs = {
        "candidates": turn.fingerprint("retrieve"),
        "teacher": job.teacher_inputs,
        "calibration": job.manifests["gate"]["fingerprint"] if "gate" in job.manifests else None,
    }
    turn.stage("score", "teacher-scores", inputs, work)
