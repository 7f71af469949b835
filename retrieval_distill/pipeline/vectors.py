"""Stages that embed and index the documents, with every model that needs it."""

from __future__ import annotations

from retrieval_distill import models, verbs
from retrieval_distill.pipeline.job import Job


def embed_start(job: Job) -> None:
    """The start model's vectors and index: it mines candidates and is a baseline."""
    config = job.recipe.student
    _embed_and_index(job, "start", config.model, config.max_length, config.similarity)


def embed_student(job: Job) -> None:
    """The student's vectors and index."""
    _embed_and_index(job, "student", str(job.out / "student"), None, job.recipe.student.similarity)


def embed_baselines(job: Job) -> None:
    """The vectors and indexes of the other models that are measured."""
    for name, model in job.baselines.items():
        _embed_and_index(job, name, model, None, models.similarity(model))


def _embed_and_index(job: Job, name: str, model: str, max_length: int | None, similarity: str) -> None:
    vectors, dtype = job.out / f"embeddings-{name}", job.recipe.embed.dtype
    job.note(f"embed-{name}", verbs.embed(model, job.dataset.documents, vectors, dtype, max_length))
    index, config = job.out / f"index-{name}", job.recipe.index
    held_out = (model, job.training_queries) if config.kind == "auto" else None
    made = verbs.index(
        vectors, index, config.kind, similarity, config.dimensions, config.rescore, config.intent, held_out
    )
    job.note(f"index-{name}", made)
