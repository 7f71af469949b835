"""``run``: the recipe read as prose. One folder in, one measured student out.

    dataset -> (queries) -> candidates -> teacher scores -> student -> vectors -> index -> fusion -> measured runs
    -> report

Candidates, scores and student may come in several rounds, in which the student mines for its own training.

Knows the order of the stages and what each depends on; must not know how a stage does its work. Started by
``torchrun``, the first process does all of it, and the others join it for the student.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe, load_recipe
from retrieval_distill.pipeline.candidates import filter_negatives, find_dev, retrieve
from retrieval_distill.pipeline.compressing import compress
from retrieval_distill.pipeline.fusing import tune_fusion
from retrieval_distill.pipeline.generating import generate
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.measures import measure
from retrieval_distill.pipeline.rounds import Round, rounds
from retrieval_distill.pipeline.students import distill
from retrieval_distill.pipeline.teachers import ask_gate, score
from retrieval_distill.pipeline.vectors import (
    embed_baselines,
    embed_retrievers,
    embed_rival,
    embed_start,
    embed_student,
)
from retrieval_distill.reporting import publish, report, unmeasured
from retrieval_distill.runtime import processes

logger = logging.getLogger("retrieval_distill")


def run(recipe: Recipe, out: str | Path) -> dict[str, Any]:
    """Run a recipe in a folder; stages that are already done there with the same inputs are kept.

    Args:
        recipe: What to do.
        out: The run's folder; a killed run is continued by calling again.

    Returns:
        The report, as written to ``report.json``; ``report.html`` shows it, ``report.md`` is its Markdown twin. Of a
        corpus without test queries, what :func:`retrieval_distill.reporting.unmeasured.write` says. Nothing in
        processes that only helped to train.

    Raises:
        UserError: The folder belongs to another recipe or is no run, or an input is wrong.
    """
    job = Job(recipe, Path(out))
    start = time.monotonic()
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
        return {}
    embed_student(turn)
    embed_baselines(job)
    embed_rival(job)
    tune_fusion(job)
    if not job.measurable:
        return unmeasured.write(job.out, job.dataset, recipe, job.manifests)
    measure(job)
    finished = report.write(job.out, job.dataset, recipe, job.manifests)
    page = publish.report(job.out, dataset=job.dataset)
    logger.info("%s\nfinished in %.0f s; report: %s", report.table(finished), time.monotonic() - start, page)
    return finished


def teach(turn: Round) -> None:
    """One round: the student learns from the documents that it, or the start model, finds hard."""
    retrieve(turn)
    score(turn)
    filter_negatives(turn)
    distill(turn)


def demo(out: str | Path = "runs/demo", overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Run the shipped recipe ``demo``: python-docs, the starter teacher and the packaged student."""
    return run(load_recipe("demo", overrides), out)
