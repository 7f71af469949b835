"""Stages of the data: the recipe's datasets, cleaned where it says so; queries from documents and from feedback."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval_distill import api, endpoints
from retrieval_distill.config import DatasetConfig, PrepareConfig, Recipe, SourceConfig
from retrieval_distill.data import sources
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.pipeline.job import Job
from retrieval_distill.runtime.stages import Manifest
from retrieval_distill.teacher import teacher_loader as teachers


def open_job(recipe: Recipe, out: Path) -> Job:
    """The recipe in its folder, with its dataset: each source is cleaned by itself, into the run's folder."""
    endpoints.declare(recipe.endpoints, out / endpoints.FOLDER)
    folder = out / "dataset"
    manifests: dict[str, Manifest] = {}
    if recipe.prepare is not None:
        every: Mapping[str, DatasetConfig | SourceConfig] = recipe.datasets or {"": recipe.dataset}
        for name, source in every.items():
            there = sources.located(source, folder)
            found = load(there.source, folder, there)
            options = prepare_options(recipe.prepare, recipe, source)
            cleaned = api.prepare(found, out=sources.prepared_folder(folder, name), config=options)
            manifests["-".join(filter(None, ("prepare", name)))] = cleaned.manifest
    job = Job(recipe, out, sources.of_run(recipe, folder))
    for name, manifest in manifests.items():
        job.note(name, manifest)
    if recipe.generate is None:
        hear(job)
    return job


def prepare_options(config: PrepareConfig, recipe: Recipe, source: DatasetConfig | SourceConfig) -> PrepareConfig:
    """The section ``prepare``; splits, models and lengths that it leaves open are the recipe's."""
    student, teacher = recipe.student, recipe.teacher.members[0]
    kind, model = teachers.split(teacher.model)
    known: dict[str, Any] = {
        "student": student.model,
        "student_length": student.max_length,
        "train": source.train,
        "held_out": (*filter(None, (source.dev, source.test)), *recipe.evaluate.other_splits(source.train)),
    }
    if kind == "cross-encoder":
        known |= {"teacher": model, "teacher_length": teacher.tokens}
    return config.filled(known)


def generate(job: Job) -> None:
    """Queries for training, where the recipe asks for them; from then on they are the dataset's."""
    config, recipe = job.recipe.generate, job.recipe
    if config is None:
        return
    asked: dict[str, Any] = {"teacher": job.teachers, "store": job.store} if config.round_trip.asks_teacher else {}
    job.dataset = api.generate(
        job.dataset, out=job.out / "generated", seed=recipe.seed, corpus=False, config=config,
        teacher_config=job.teacher_config, **asked, **job.first_stage,
    )  # fmt: skip
    job.note("generate", job.dataset.manifest)
    job.dataset = sources.with_dev(job.dataset, recipe)
    hear(job)


def hear(job: Job) -> None:
    """What people searched, clicked and judged, where the recipe learns from it; from then on it is the dataset's."""
    config = job.recipe.feedback
    if config is None:
        return
    job.dataset = api.feedback_to_dataset(
        config.log, job.dataset, out=job.out / "feedback", split=job.train_split, corpus=False, config=config
    )
    job.note("feedback", job.dataset.manifest)
