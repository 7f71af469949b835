"""Trying settings: a student trained in a run's folder of its own, and its measure on dev queries.

Runs share every stage whose inputs are the same, and one score store: what a setting costs is what it changes. Knows
runs, their stages and dev queries; must not know how settings are chosen.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback, TrainerState, TrainingArguments

from retrieval_distill.benchmarks import speed
from retrieval_distill.config import Recipe
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import self_hits
from retrieval_distill.evaluation.measures import evaluate
from retrieval_distill.pipeline import learning
from retrieval_distill.pipeline.candidates import dev_candidates
from retrieval_distill.pipeline.checks import check
from retrieval_distill.pipeline.data import open_job
from retrieval_distill.pipeline.forecast import Act
from retrieval_distill.pipeline.job import Job
from retrieval_distill.pipeline.rounds import rounds
from retrieval_distill.pipeline.vectors import embed_student
from retrieval_distill.runtime import destination, files, lock, sharing, stages, trash
from retrieval_distill.runtime.stages import read_json, write_json
from retrieval_distill.student import encoder
from retrieval_distill.training import training_log
from retrieval_distill.training.dev_retrieval import DevSet, retrieve
from retrieval_distill.training.distillation_trainer import DistillationTrainer

logger = logging.getLogger("retrieval_distill")

RUNS, SCORES = "trials", "scores"
"""Folders of a search: its runs, and the scores that these share."""

ASKED = 200
"""Dev queries by which it is measured, at most."""

LATENCY = "latency"
"""The fact that is measured by asking the student one query at a time, and only if it is wanted."""

OWN = "own"
"""The run of the recipe's own settings."""


@dataclass(frozen=True)
class Siblings:
    """The runs in a folder as they are whenever one looks: another process may begin one at any time."""

    folder: Path

    def __iter__(self) -> Iterator[Path]:
        return iter(sorted(path for path in self.folder.glob("[!.]*") if path.is_dir()))


class PrunedError(Exception):
    """A training that was ended because other settings did better."""


def train(recipe: Recipe, folder: Path, retraining: int = 0, callbacks: tuple[TrainerCallback, ...] = ()) -> Job:
    """All of a recipe's stages up to its student, as far as no other run of the search has them.

    Args:
        recipe: The settings.
        folder: The run's, ``RUNS/NAME`` in the search's folder.
        retraining: Added to the seed of the training alone.
        callbacks: Called while the student trains.
    """
    files.make_folder(folder)
    with sharing.among(Siblings(folder.parent)):
        job = open_job(recipe, folder)
        _check_dev(job)
        job.retraining, job.callbacks = retraining, callbacks
        check(job)
        _share_scores(folder)
        for act in learning(job):
            logger.info("%s: %s", folder.name, act.what)
            with _scoring_alone(act, folder):
                act.do()
    return job


@dataclass(frozen=True, eq=False)
class Judge:
    """What compares students: the same dev queries for all, over the same pool of documents.

    Args:
        dev: Queries, judgements and documents.
        measure: The recipe's headline.
        depth: Documents retrieved per query.
        against: What else they are compared by, a fact of :meth:`judged`; ``None``: by nothing.
    """

    dev: DevSet
    measure: str
    depth: int
    against: str | None = None

    @classmethod
    def of(cls, own: Job, out: Path) -> Judge:
        """By the recipe's own run, whose start model finds the pool; ``out`` is the search's folder."""
        recipe, config = own.recipe, own.recipe.tune
        candidates = dev_candidates(own, out / "dev-candidates", config.dev_queries)
        dev = DevSet.pool(candidates, own.dev_split(), own.dev, config.dev_documents, recipe.seed)
        return cls(dev, recipe.evaluate.measures[0], recipe.evaluate.depth, config.against)

    def values(self, student: SentenceTransformer) -> np.ndarray:
        """The measure of every dev query by a student as it is.

        Raises:
            UserError: Its vectors are no finite numbers any more.
        """
        found = retrieve(student, self.dev, self.depth)
        if not np.isfinite(found.frame["score"]).all():
            raise UserError(f"the student's vectors are no finite numbers any more; {DistillationTrainer.nan_advice}")
        found = self_hits.drop_self_hits(found, self.dev.queries, self.dev.documents, self.dev.qrels)
        return evaluate(found, self.dev.qrels, [self.measure])[self.measure].to_numpy()

    def judged(self, job: Job) -> tuple[float, dict[str, Any]]:
        """The mean measure of a run's student, which is kept by query in the run's folder, and what it cost.

        That is seconds of ``training`` and of ``dev``, ``tokens`` and ``queries`` that the student learnt from, its
        ``parameters`` and ``dimensions`` and, where students are compared by it, the ``latency`` of one query's vector
        in milliseconds.
        """
        trained, timed = job.manifests["distill"], self.against == LATENCY
        tokens = sum(turn.manifest("distill")["counts"].get("tokens", 0) for turn in rounds(job))

        def work(folder: Path) -> dict[str, Any]:
            student = encoder.load(str(job.out / "student"))
            values = self.values(student)
            write_json(folder / "values.json", dict(zip(self.dev.qrels, values.tolist(), strict=True)))
            return {"queries": len(values), **({LATENCY: self._latency(student)} if timed else {})}

        inputs = {
            "student": trained["fingerprint"],
            "dev": self.dev.fingerprint,
            "measure": self.measure,
            "depth": self.depth,
            **({"timed": True} if timed else {}),
        }
        manifest = stages.stage("dev", job.out / "dev", inputs, work)
        cost = {name: trained["counts"][name] for name in ("parameters", "dimensions", "queries")}
        cost |= {LATENCY: manifest["counts"][LATENCY]} if timed else {}
        facts = {"training": trained["seconds"], "dev": manifest["seconds"], "tokens": tokens, **cost}
        return float(dev_values(job.out).mean()), facts

    def _latency(self, student: SentenceTransformer) -> float:
        """Milliseconds for the vector of a single query, median over the dev queries."""
        texts = self.dev.queries.take()[:ASKED]
        seconds = speed.latency(lambda query: encoder.encode(student, [query], "query"), texts)
        return round(1000 * float(np.median(seconds)), 3)


def dev_values(folder: Path) -> np.ndarray:
    """The measure of every dev query, in the judgements' order, by the student of a run."""
    return np.array(list(read_json(folder / "dev" / "values.json").values()), np.float64)


class Watch(TrainerCallback):
    """Measures a student at some points of its training.

    Args:
        judge: What measures it.
        points: Name of a point -> share of the training after which it is reached.
        reached: Given the name and the mean measure; whether the training goes on.
    """

    def __init__(self, judge: Judge, points: dict[int, float], reached: Callable[[int, float], bool]) -> None:
        self.judge, self.points, self.reached = judge, points, reached
        self.ends = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: Any, **given: Any) -> None:
        """Called by the trainer after every optimiser step."""
        for point, share in self.points.items():
            if state.global_step == max(1, round(share * state.max_steps)) < state.max_steps:
                self.ends |= not self.reached(point, float(self.judge.values(given["model"].student).mean()))
        control.should_log |= self.ends

    def on_log(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer after every row of the log; the last one counts all steps so far.

        Raises:
            PrunedError: The training does not go on.
        """
        if self.ends:
            raise PrunedError


class Tokens(TrainerCallback):
    """Counts the tokens that a student is trained on, in as many trainings as there are."""

    def __init__(self) -> None:
        self._trainings: list[int] = []

    @property
    def count(self) -> int:
        """Without padding, up to the last row of the log."""
        return sum(self._trainings)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer before its first step."""
        self._trainings.append(training_log.tokens(state.log_history))

    def on_log(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer after every row of the log."""
        self._trainings[-1] = training_log.tokens(state.log_history)


def answers(job: Job) -> Run:
    """What a run's student finds for the test queries in the whole corpus, exactly as the recipe's index does."""
    *_, last = rounds(job)
    embed_student(last)
    depth = job.dataset.in_passages(job.recipe.evaluate.depth)
    return job.dense("student", job.model("student"), job.dataset.queries(job.recipe.dataset.measured), depth)


def forget_student(folder: Path) -> None:
    """Remove a run's student, finished or not; what it was measured at stays, and its stages can make it again."""
    student = folder / "student"
    for path in (student, destination.work_folder(student)):
        trash.remove(path)


def _check_dev(job: Job) -> None:
    split = job.recipe.dataset.dev
    if not (split and job.dataset.qrels.get(split)):
        splits = ", ".join(job.dataset.qrels)
        raise UserError(f"tune compares settings on dev queries: set dataset.dev to a judged split ({splits})")


def _scoring_alone(act: Act, folder: Path) -> AbstractContextManager[None]:
    """One process at a time asks the teacher, so that no pair is scored twice."""
    scores = act.folder is not None and act.folder.name == "teacher-scores"
    return lock.exclusive(folder.parent.parent / SCORES, wait=True) if scores else nullcontext()


def _share_scores(folder: Path) -> None:
    """Make the run's score store the one of the search."""
    shared, link = folder.parent.parent / SCORES, folder / SCORES
    files.make_folder(shared)
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(shared, folder))
