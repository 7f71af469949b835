"""``run``: the recipe read as prose. One folder in, one measured student out.

    dataset -> (queries) -> candidates -> teacher scores -> student -> vectors -> index -> fusion -> measured runs
    -> report

Candidates, scores and student may come in several rounds, in which the student mines for its own training. The last
training may be repeated with further seeds, after the first student is measured.

Knows the order of the stages and what each depends on; must not know how a stage does its work. Started by
``torchrun``, the first process does all of it, and the others join it for the student.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from retrieval_distill.config import Recipe, load_recipe
from retrieval_distill.pipeline.candidates import filter_negatives, find_dev, retrieve
from retrieval_distill.pipeline.checks import check, check_owner
from retrieval_distill.pipeline.data import generate, open_job
from retrieval_distill.pipeline.forecast import Act, Workload, carry_out
from retrieval_distill.pipeline.fusing import tune_fusion
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.measures import measure, measure_also
from retrieval_distill.pipeline.rounds import Round, further_seeds, rounds
from retrieval_distill.pipeline.seeds import find
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
    check(job)
    if processes.rank() > 0:  # helps to train, and leaves what follows to the first process
        for act in learning(job):
            act.do()
        for turn in further_seeds(job):
            distill(turn)
        return Report({}, ())
    carry_out(job, [*learning(job), *measuring(job), *learning_again(job)])
    if not job.measurable:
        told = unmeasured.write(job.out, job.dataset, job.settled, job.manifests)
        page = publish.report(job.out, dataset=job.dataset)
        logger.warning("%s The student is in %s; report: %s", told["unmeasured"], job.out / "student", page)
        logger.info("try it: retrieval-distill search %s 'a question'", shlex.quote(str(out)))
        return Report({}, tuple(recipe.evaluate.measures), told, folder)
    finished = report.write(job.out, job.dataset, job.settled, job.manifests, job.also)
    page = publish.report(job.out, dataset=job.dataset)
    Searcher.open(job.out)  # whatever makes the first search ready, so that it answers as quickly as the next
    logger.info("%s\nfinished in %.0f s; report: %s", report.table(finished), time.monotonic() - start, page)
    return Report.of_run(finished, folder)


def learning(job: Job) -> list[Act]:
    """All up to the finished student, in order."""
    recipe, out = job.recipe, job.out
    start = recipe.student.max_length if recipe.evaluate.start_length == "student" else None
    acts = [
        Act("vectors and index of the start model", partial(embed_start, job),
            lambda load: load.embedding(recipe.student.model, start), out / "embeddings-start")
    ]  # fmt: skip
    if job.retrievers:
        acts.append(_embedding("vectors and indexes of the other retrievers", embed_retrievers, job, job.retrievers))
    if recipe.generate is not None:
        acts.append(Act("queries from the documents", partial(generate, job)))
    if asks_gate(job):
        acts.append(Act("is the teacher better?", partial(ask_gate, job), Workload.gate, out / "gate"))
    if recipe.training.evaluate_steps:
        acts.append(Act("candidates of the dev queries", partial(find_dev, job)))
    if recipe.compress:
        acts.append(Act("a smaller student", partial(compress, job)))
    for turn in rounds(job):
        if turn.before:
            acts.append(_student("vectors and index of the student so far", turn.before))
        acts += teaching(turn)
    return acts


def teaching(turn: Round) -> list[Act]:
    """One round: the student learns from the documents that it, or the start model, finds hard."""
    rounds_ = turn.job.recipe.mining.rounds
    of_round = f", round {turn.number} of {rounds_}" if rounds_ > 1 else ""
    scores, student = turn.out / "teacher-scores", turn.out / "student"
    return [
        Act(f"candidates of the training queries{of_round}", partial(retrieve, turn)),
        Act(f"the teacher's scores{of_round}", partial(score, turn), Workload.candidates, scores),
        Act(f"the lists that teach{of_round}", partial(filter_negatives, turn)),
        Act(f"the student's training{of_round}", partial(distill, turn), Workload.training, student),
    ]


def teach(turn: Round) -> None:
    """Do all of a round."""
    for act in teaching(turn):
        act.do()


def measuring(job: Job) -> list[Act]:
    """All that follows, for the first process alone."""
    *_, last = rounds(job)
    acts = [_student("vectors and index of the student", last)]
    if job.baselines:
        acts.append(_embedding("vectors and indexes of the baselines", embed_baselines, job, job.baselines))
    if job.tuning_split:
        acts.append(Act("how to fuse with BM25, asked of the dev queries", partial(tune_fusion, job)))
    if job.measurable:
        test = job.recipe.dataset.measured
        acts.append(Act("measures of every system", partial(measure, job), _reranking(test), job.out / "runs"))
        acts += [
            Act(f"measures of every system on the split {split}", partial(measure_also, job, split), _reranking(split),
                job.out / f"runs-{split}")
            for split in job.also
        ]  # fmt: skip
    return acts


def learning_again(job: Job) -> list[Act]:
    """The same training with further seeds; the first process embeds, fuses and measures each student by itself."""
    acts = []
    for turn in further_seeds(job):
        of_seed = f"the student of seed {turn.seed}"
        acts += [
            Act(f"the training of {of_seed}", partial(distill, turn), Workload.training, turn.out / "student"),
            _student(f"vectors and index of {of_seed}", turn),
            Act(f"measures of {of_seed}", partial(find, turn)),
        ]
    return acts


def _student(what: str, turn: Round) -> Act:
    config = turn.job.recipe.student
    return Act(what, partial(embed_student, turn), lambda load: load.embedding(config.model, config.max_length),
               turn.out / "embeddings-student")  # fmt: skip


def _embedding(what: str, embed: Callable[[Job], None], job: Job, named: Mapping[str, str]) -> Act:
    return Act(what, partial(embed, job), lambda load: sum(load.embedding(model, None) for model in named.values()),
               job.out / f"embeddings-{list(named)[-1]}")  # fmt: skip


def _reranking(split: str) -> Callable[[Workload], float]:
    return lambda load: load.reranking(split)


def demo(*, out: str | Path = "runs/demo", overrides: Sequence[str] = ()) -> Report:
    """Run the shipped recipe ``demo``: python-docs, the starter teacher and the packaged student.

    Args:
        out: Folder of the run; a killed run is continued by calling again.
        overrides: Keys on top of the recipe, such as ``training.steps=50``.
    """
    return run("demo", out=out, overrides=overrides)
