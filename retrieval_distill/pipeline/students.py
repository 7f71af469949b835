"""Stages of the student: made smaller on plain text where the recipe says so, then trained on the teacher's scores."""

from __future__ import annotations

from retrieval_distill import api
from retrieval_distill.data.run import Run
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round


def compress(job: Job) -> None:
    """The recipe's chain: each step starts from the one before and, where nothing else is said, learns from it."""
    model = job.recipe.student.model
    for folder, config in zip(job.compressed, job.recipe.compress, strict=True):
        step = config if config.model else config.model_copy(update={"model": model})
        student = api.compress(job.dataset.documents, out=folder, seed=job.recipe.seed, config=step)
        job.note(folder.name, student.manifest)
        model = str(folder)


def distill(turn: Round) -> None:
    """The student, trained on the teacher's scores of the round's candidates with the round's seed."""
    job = turn.job
    lists = Run.load(turn.lists / "run.parquet")
    dev = None
    if job.recipe.training.evaluate_steps:
        dev = Run.load(job.out / "dev-candidates" / "run.parquet"), job.dev_split()
    job.release_teachers()  # their scores are all there
    bm25 = (lambda: job.bm25) if job.trained.documents is job.dataset.documents else None
    student = api.distill(
        lists, job.dataset, out=turn.out / "student", recipe=turn.recipe, split=job.train_split, dev=dev,
        callbacks=job.callbacks, bm25=bm25,
    )  # fmt: skip
    turn.note("distill", student.manifest)
