"""What a run refuses before anything costly: options that do not go together, models and splits that cannot be had.

What passes marks the folder as its own. Knows a run's nouns; must not know its stages.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill import endpoints, models
from retrieval_distill.config import MemberConfig, Recipe
from retrieval_distill.data import generated, sources
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import measures
from retrieval_distill.generate import ways
from retrieval_distill.pipeline.job import Job
from retrieval_distill.runtime import destination, files, processes, stages
from retrieval_distill.teacher import teacher_loader as teachers
from retrieval_distill.training.objective_mix import objective_mix


def check(job: Job) -> None:
    """Find what would stop the run later, before anything costly; then make the folder this recipe's.

    Of several processes only the first does.

    Raises:
        UserError: An option, model or split does not fit; nothing was written.
    """
    if processes.rank() > 0:
        return
    objective_mix(job.recipe)
    measures.parse_measures(job.recipe.evaluate.measures)
    _check_also(job)
    models.resolve(job.recipe.student.model)
    declared = [endpoints.PREFIX + name for name in job.recipe.endpoints]
    taught_by = filter(endpoints.is_one, [job.recipe.embedding_teacher.model or ""])
    for model in [*declared, *job.baselines.values(), *job.retrievers.values(), *taught_by]:
        models.check(model)
    _check_teachers(job)
    if job.recipe.generate is None:
        job.dataset.qrels(job.train_split)
    else:
        ways.check(job.recipe.generate)
        generated.refuse_generated(job.dataset)
    _check_measures(job)
    _check_seeds(job)
    if job.recipe.training.report_to:
        from retrieval_distill.training.trackers import trackers

        trackers(job.recipe.training.report_to)
    if job.recipe.training.evaluate_steps:
        job.dev_split()
    stages.write_json(job.out / "recipe.json", job.settled.model_dump(mode="json"))
    sources.remember_working_directory(job.recipe, job.out / "dataset")
    files.remove_abandoned(job.out.glob(".*"))


def _check_teachers(job: Job) -> None:
    """Refuse teachers that cannot be had, and one that is named beside an ensemble and would not be asked."""
    config = job.recipe.teacher
    if config.ensemble and config.model != MemberConfig().model:
        raise UserError(
            f"teacher.model={config.model} is not asked where there is a teacher.ensemble "
            f"({job.teacher_name}): leave one of them out, with --set teacher.ensemble=[] the ensemble"
        )
    for member in [*job.members, *job.rerankers.values()]:
        teachers.check(member)


def _check_measures(job: Job) -> None:
    """Refuse a split for measures that is not there, unless a corpus made its own queries: it may lack one."""
    test = job.recipe.dataset.test
    if test is None or job.measurable or job.recipe.datasets or job.train_split == generated.SPLIT:
        return
    try:
        job.dataset.qrels(test)
    except UserError as error:
        raise UserError(f"{error}; to train without measuring: dataset.test=null") from None


def _check_seeds(job: Job) -> None:
    """Refuse students of further seeds where there is nothing to measure them on."""
    if job.recipe.evaluate.seeds > 1 and not job.measurable:
        raise UserError(
            f"evaluate.seeds={job.recipe.evaluate.seeds} trains further students to measure them on test queries, "
            "and there are none: leave it at 1, or name a judged split as dataset.test"
        )


def _check_also(job: Job) -> None:
    """Refuse splits to measure beside the test split that are not there, or that train, tune or are measured."""
    also = job.recipe.evaluate.also or ()
    for split in also:
        job.dataset.qrels(split)
    if taken := [split for split in also if split not in job.recipe.evaluate.other_splits(*job.parts)]:
        raise UserError(f"evaluate.also={taken[0]}: that split has a part in this run already; name another one")


def check_owner(out: Path, recipe: Recipe) -> None:
    """Refuse a folder that is not this recipe's.

    Raises:
        UserError: The folder holds another recipe's run, or files that are no run.
    """
    mark = out / "recipe.json"
    if mark.is_file():
        found = stages.read_json(mark)
        owner = found.get("name") if isinstance(found, dict) else None
        if owner != recipe.name:
            raise UserError(f"{out} belongs to recipe {owner!r}, not {recipe.name!r}; choose another --out folder")
    elif out.exists() and (not out.is_dir() or any(path.name != "dataset" for path in out.iterdir())):
        raise UserError(f"{out} is not empty and holds no run; choose another --out folder")
    destination.check_appendable(out, "run", lambda folder: mark.is_file(), ("dataset",))
