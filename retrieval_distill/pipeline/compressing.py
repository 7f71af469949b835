"""The stage that makes the student smaller on plain text, before it learns to retrieve."""

from __future__ import annotations

from retrieval_distill import api
from retrieval_distill.pipeline.job import Job


def compress(job: Job) -> None:
    """The recipe's chain: each step starts from the one before and, where nothing else is said, learns from it."""
    model = job.recipe.student.model
    for folder, config in zip(job.compressed, job.recipe.compress, strict=True):
        step = config if config.model else config.model_copy(update={"model": model})
        job.note(folder.name, api.compress(job.dataset.documents, folder, seed=job.recipe.seed, **step.model_dump()))
        model = str(folder)
