"""Stages that embed and index the documents, with every model that needs it."""

from __future__ import annotations

from typing import Any

from retrieval_distill import api, models
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round
from retrieval_distill.reporting import tradeoff


def embed_start(job: Job) -> None:
    """The start model's vectors and index, as one would use it untrained: it mines, and is the student's rival."""
    student = job.recipe.student
    max_length = student.max_length if job.recipe.evaluate.start_length == "student" else None
    _embed_and_index(job, job, "start", student.model, max_length, models.similarity(student.model))


def embed_retrievers(job: Job) -> None:
    """The vectors and indexes of the other models that mine."""
    for name, model in job.retrievers.items():
        _embed_and_index(job, job, name, model, None, models.similarity(model))


def embed_student(turn: Round) -> None:
    """The vectors and index of the student that a round trained."""
    student = str(turn.out / "student")
    _embed_and_index(turn.job, turn, "student", student, None, turn.job.recipe.student.similarity)


def embed_baselines(job: Job) -> None:
    """The vectors and indexes of the other models that are measured."""
    for name, model in job.baselines.items():
        _embed_and_index(job, job, name, model, None, models.similarity(model))


def _embed_and_index(job: Job, at: Job | Round, name: str, model: str, max_length: int | None, similarity: str) -> None:
    """In the folder of the job or of a round, under its names."""
    how, config = job.recipe.embed, job.recipe.index
    vectors = api.embed(
        job.dataset,
        model,
        out=at.out / f"embeddings-{name}",
        dtype=how.dtype,
        max_length=max_length,
        storage=how.storage,
    )
    at.note(f"embed-{name}", vectors.manifest)
    tuned: dict[str, Any] = (
        {"model": model, "queries": job.training_queries, "config": config.intent} if config.kind == "auto" else {}
    )
    built = api.index(
        vectors, out=at.out / f"index-{name}", kind=config.kind, similarity=similarity, dimensions=config.dimensions,
        rescore=config.rescore, **tuned,
    )  # fmt: skip
    tradeoff.write(built.folder)
    at.note(f"index-{name}", built.manifest)
