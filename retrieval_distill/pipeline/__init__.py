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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from retrieval_distill.config import Recipe, load_recipe
from retrieval_distill.pipeline.candidates import filter_negatives, find_dev, retrieve
from retrieval_distill.pipeline.data import generate, open_job
from retrieval_distill.pipeline.fusing import tune_fusion
from retrieval_distill.pipeline.job import Job, check_owner
from retrieval_distill.pipeline.measures import measure, measure_also
from retrieval_distill.pipeline.rounds import Round, rounds
from retrieval_distill.pipeline.students import compress, distill
from retrieval_distill.pipeline.teachers import ask_gate, asks_gate, score
from retrieval_distill.pipeline.vectors import embed_baselines, embed_retrievers, embed_start, embed_student
from retrieval_distill.reporting import publish, report, unmeasured
from retrieval_distill.reporting.results import Report
from retrieval_distill.runtime import processes
from retrieval_distill.search.searcher import Searcher

logger = logging.getLogger("retrieval_distill")


def run(recipe: Recipe | str | Path, *, out: str | Path, overrides: Sequence[str] = ()) -> Report:
    """Run a recipe in a folder; stages that are already done there with the same inputs are kept.

    Args:
        recipe: A recipe, its file, or the name of a shipped one.
        out: Folder of the run; a killed run is continued by calling again.
        overrides: Keys on top of a recipe that is named, such as ``training.steps=50``.

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
    before, after = learning(job), measuring(job)
    for number, (what, act) in enumerate([*before, *after], 1):
        if processes.rank() > 0 and number > len(before):
            return Report({}, ())
        logger.info("stage %d of %d: %s", number, len(before) + len(after), what)
        act()
    if not job.measurable:
        told = unmeasured.write(job.out, job.dataset, job.settled, job.manifests)
        page = publish.report(job.out, dataset=job.dataset)
        logger.warning("%s The student is in %s; report: %s", told["unmeasured"], job.out / "student", page)
        logger.info("try it: retrieval-distill search %s 'a question'", out)
        return Report({}, tuple(recipe.evaluate.measures), told, folder)
    finished = report.write(job.out, job.dataset, job.settled, job.manifests, job.also)
    page = publish.report(job.out, dataset=job.dataset)
    Searcher.open(job.out)  # whatever makes the first search ready, so that it answers as quickly as the next
    logger.info("%s\nfinished in %.0f s; report: %s", report.table(finished), time.monotonic() - start, page)
    return Report.of_run(finished, folder)


Acts = list[tuple[str, Callable[[], None]]]
"""What each is, and what does it; what a recipe does not ask for is no act."""


def learning(job: Job) -> Acts:
    """All up to the finished student, in order."""
    recipe = job.recipe
    acts: Acts = [("vectors and index of the start model", partial(embed_start, job))]
    if job.retrievers:
        acts.append(("vectors and indexes of the other retrievers", partial(embed_retrievers, job)))
    if recipe.generate is not None:
        acts.append(("queries from the documents", partial(generate, job)))
    if asks_gate(job):
        acts.append(("is the teacher better?", partial(ask_gate, job)))
    if recipe.training.evaluate_steps:
        acts.append(("candidates of the dev queries", partial(find_dev, job)))
    if recipe.compress:
        acts.append(("a smaller student", partial(compress, job)))
    for turn in rounds(job):
        if turn.before:
            acts.append(("vectors and index of the student so far", partial(embed_student, turn.before)))
        acts += teaching(turn)
    return acts


def teaching(turn: Round) -> Acts:
    """One round: the student learns from the documents that it, or the start model, finds hard."""
    rounds_ = turn.job.recipe.mining.rounds
    of_round = f", round {turn.number} of {rounds_}" if rounds_ > 1 else ""
    acts: Acts = [
        ("candidates of the training queries", partial(retrieve, turn)),
        ("the teacher's scores", partial(score, turn)),
        ("the lists that teach", partial(filter_negatives, turn)),
        ("the student's training", partial(distill, turn)),
    ]
    return [(what + of_round, act) for what, act in acts]


def teach(turn: Round) -> None:
    """Do all of a round."""
    for _, act in teaching(turn):
        act()


def measuring(job: Job) -> Acts:
    """All that follows, for the first process alone."""
    *_, last = rounds(job)
    acts: Acts = [("vectors and index of the student", partial(embed_student, last))]
    if job.baselines:
        acts.append(("vectors and indexes of the baselines", partial(embed_baselines, job)))
    if job.judged_dev:
        acts.append(("how to fuse with BM25, asked of the dev queries", partial(tune_fusion, job)))
    if job.measurable:
        acts.append(("measures of every system", partial(measure, job)))
        acts += [
            (f"measures of every system on the split {split}", partial(measure_also, job, split)) for split in job.also
        ]
    return acts


def demo(*, out: str | Path = "runs/demo", overrides: Sequence[str] = ()) -> Report:
    """Run the shipped recipe ``demo``: python-docs, the starter teacher and the packaged student.

    Args:
        out: Folder of the run; a killed run is continued by calling again.
        overrides: Keys on top of the recipe, such as ``training.steps=50``.
    """
    return run("demo", out=out, overrides=overrides)
