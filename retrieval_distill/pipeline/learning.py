"""The stage that trains the student."""

from __future__ import annotations

from retrieval_distill import verbs
from retrieval_distill.pipeline.job import Job
from retrieval_distill.retrieval.run import Run


def distill(job: Job) -> None:
    """The student, trained on the teacher's scores."""
    scored = Run.load(job.out / "teacher-scores" / "run.parquet")
    dev = None
    if job.recipe.training.evaluate_steps:
        dev = Run.load(job.out / "dev-candidates" / "run.parquet"), job.dev_split()
    split = job.train_split
    job.__dict__.pop("teachers", None)  # make room: their scores are all there
    job.note("distill", verbs.distill(scored, job.dataset, split, job.recipe, job.out / "student", dev))
