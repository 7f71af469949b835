"""The stage before all others: the recipe's datasets, cleaned where it says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from retrieval_distill.config import DatasetConfig, PrepareConfig, Recipe, SourceConfig
from retrieval_distill.data import sources
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.load import load
from retrieval_distill.teacher import load as teachers

if TYPE_CHECKING:
    from retrieval_distill.pipeline.job import Job


def dataset(job: Job) -> Dataset:
    """The dataset that all other stages work on; each source is cleaned by itself, into the run's folder."""
    folder, recipe = job.out / "dataset", job.recipe
    if recipe.prepare is not None:
        from retrieval_distill.data.prepare import prepare

        every: Mapping[str, DatasetConfig | SourceConfig] = recipe.datasets or {"": recipe.dataset}
        for name, source in every.items():
            found = load(source.source, folder, source)
            manifest = prepare(found, sources.prepared(folder, name), options(recipe.prepare, recipe, source))
            job.note("-".join(filter(None, ("prepare", name))), manifest)
    return sources.of_run(recipe, folder)


def options(config: PrepareConfig, recipe: Recipe, source: DatasetConfig | SourceConfig) -> PrepareConfig:
    """The section ``prepare``; splits, models and lengths that it leaves open are the recipe's."""
    student, teacher = recipe.student, recipe.teacher.members[0]
    kind, model = teachers.split(teacher.model)
    known: dict[str, Any] = {
        "student": student.model,
        "student_length": student.max_length,
        "train": source.train,
        "held_out": tuple(filter(None, (source.dev, source.test))),
    }
    if kind == "cross-encoder":
        known |= {"teacher": model, "teacher_length": teacher.max_length}
    return config.filled(known)
