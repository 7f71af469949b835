"""Stages that embed and index the documents, with every model that needs it."""

from __future__ import annotations

from retrieval_distill import api, models
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import Round


def embed_start(job: Job) -> None:
    """The start model's vectors and index, read as the student reads: it mines candidates."""
    config = job.recipe.student
    _embed_and_index(job, job, "start", config.model, config.max_length, config.similarity)


def embed_rival(job: Job) -> None:
    """The start model's vectors and index as one would use it without training, unless those that mine are the same."""
    if job.rival != "start":
        model = job.recipe.student.model
        _embed_and_index(job, job, job.rival, model, None, models.similarity(model))


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
    vectors, how = at.out / f"embeddings-{name}", job.recipe.embed
    embedded = api.embed(model, job.dataset.documents, vectors, how.dtype, max_length, storage=how.storage)
    at.note(f"embed-{name}", embedded)
    index, config = at.out / f"index-{name}", job.recipe.index
    held_out = (model, job.training_queries) if config.kind == "auto" else None
    made = api.index(
        vectors, index, config.kind, similarity, config.dimensions, config.rescore, config.intent, held_out
    )
    at.note(f"index-{name}", made)
