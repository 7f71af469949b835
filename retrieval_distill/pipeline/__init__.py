"""``run``: the recipe read as prose. One folder in, one measured student out.

    dataset -> (queries) -> candidates -> teacher scores -> student -> vectors -> index -> measured runs -> report

Candidates, scores and student may come in several rounds, in which the student mines for its own training.

Knows the order of the stages and what each depends on; must not know how a stage does its work. Started by
``torchrun``, the first process does all of it, and the others join it for the student.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from retrieval_distill.config import Recipe, load_recipe
from retrieval_distill.pipeline.candidates import filter_negatives, find_dev, retrieve
from retrieval_distill.pipeline.data import generate, open_job
from retrieval_distill.pipeline.job import check_owner
from retrieval_distill.pipeline.measures import measure
from retrieval_distill.pipeline.rounds import Round, rounds
from retrieval_distill.pipeline.students import compress, distill
from retrieval_distill.pipeline.teachers import ask_gate, score
from retrieval_distill.pipeline.vectors import embed_baselines, embed_retrievers, embed_start, embed_student
from retrieval_distill.reporting import publish, report, unmeasured
from retrieval_distill.reporting.results import Report
from retrieval_distill.runtime import processes

logger = logging.getLogger("retrieval_distill")


def run(recipe: Recipe | str | Path, *, out: str | Path, overrides: Sequence[str] = ()) -> Report:
    """Run a recipe in a folder; stages that are already done there with the same inputs are kept.

    Args:
        recipe: What to do: a recipe, its file, or the name of a shipped one.
        out: The run's folder; a killed run is continued by calling again.
        overrides: ``key=value`` on top of a recipe that is named, as on the command line.

    Returns:
        The report; ``report.html`` in the folder shows it, ``report.md`` is its Markdown twin, ``report.json`` its
        values. Of a corpus without test queries it holds no system, and says why. It is empty in processes that only
        helped to train.

    Raises:
        UserError: The folder belongs to another recipe or is no run, or an input is wrong.
    """
    start, folder = time.monotonic(), Path(out)
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides)
    check_owner(folder, recipe)
    job = open_job(recipe, folder)
    job.check()
    embed_start(job)
    embed_retrievers(job)
    generate(job)
    ask_gate(job)
    find_dev(job)
    compress(job)
    for turn in rounds(job):
        if turn.before:
            embed_student(turn.before)
        teach(turn)
    if processes.rank() > 0:
        return Report({}, ())
    embed_student(turn)
    embed_baselines(job)
    if not job.measurable:
        told = unmeasured.write(job.out, job.dataset, recipe, job.manifests)
        page = publish.report(job.out, dataset=job.dataset)
        logger.warning("%s The student is in %s; report: %s", told["unmeasured"], job.out / "student", page)
        return Report.of_run(told, folder)
    measure(job)
    finished = report.write(job.out, job.dataset, recipe, job.manifests)
    page = publish.report(job.out, dataset=job.dataset)
    logger.info("%s\nfinished in %.0f s; report: %s", report.table(finished), time.monotonic() - start, page)
    return Report.of_run(finished, folder)


def teach(turn: Round) -> None:
    """One round: the student learns from the documents that it, or the start model, finds hard."""
    retrieve(turn)
    score(turn)
    filter_negatives(turn)
    distill(turn)


def demo(*, out: str | Path = "runs/demo", overrides: Sequence[str] = ()) -> Report:
    """Run the shipped recipe ``demo``: python-docs, the starter teacher and the packaged student."""
    return run("demo", out=out, overrides=overrides)
