"""The search: one trial after another until the budget is spent.

Knows trials and the study; must not know how a student is trained, or which of them is chosen in the end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retrieval_distill.config import Recipe
from retrieval_distill.config.tune import Budget
from retrieval_distill.errors import UserError, first_line
from retrieval_distill.formatting import number
from retrieval_distill.index.operating_points import not_beaten
from retrieval_distill.pipeline.job import Job
from retrieval_distill.reporting.tuning_file import RUNGS, Trial
from retrieval_distill.runtime.disk import FullDiskError
from retrieval_distill.runtime.progress import clock
from retrieval_distill.tuning import space
from retrieval_distill.tuning.study import Study
from retrieval_distill.tuning.trials import (
    OWN,
    RUNS,
    Judge,
    PrunedError,
    Tokens,
    Watch,
    dev_values,
    forget_student,
    train,
)

logger = logging.getLogger("retrieval_distill")

FAILURES = 3
"""Trials that may fail one after another before the search stops: what is wrong is then not the settings."""

POLL_SECONDS = 1.0
"""Time between looks at the trials of other processes, when there is nothing left to begin."""


@dataclass(frozen=True, eq=False)
class Search:
    """A recipe whose settings are varied.

    Args:
        recipe: With its section ``tune``.
        out: Folder of the search.
        study: What was tried.
        judge: What compares students.
        own: The run of the recipe's own settings.
    """

    recipe: Recipe
    out: Path
    study: Study
    judge: Judge
    own: Job

    def run(self) -> None:
        """Try settings until the budget is spent and every trial has ended, those of other processes as well.

        A trial that was under way when its process ended is finished first.
        """
        failed, budget = 0, Budget.of(self.recipe.tune.budget)
        while True:
            trial = self.study.begin(lambda trials: spent(trials)[budget.unit] >= budget.amount)
            if trial is None:
                if not self.study.under_way:
                    self._forget_losers()  # for those who ended before they could
                    return
                time.sleep(POLL_SECONDS)
                continue
            failed = 0 if self._tried(trial) else failed + 1
            if failed == FAILURES:
                error = self.study.trials[trial.number].facts["error"]
                raise UserError(f"{FAILURES} trials failed one after another; the last one: {error}")
            self._forget_losers()

    def best(self, count: int) -> list[Trial]:
        """The trials that did best, of equal ones the first."""
        complete = [trial for trial in self.study.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: -(trial.value or 0.0))[:count]

    def values(self, trial: Trial) -> np.ndarray:
        """The measure of every dev query, of a trial that was trained to the end."""
        kept = self.study.by_query(trial)
        return dev_values(self.folder(trial)) if kept is None else np.array(kept)

    def folder(self, trial: Trial) -> Path:
        """Of a trial's run."""
        return self.out / RUNS / f"{trial.number:03d}"

    def settled(self, trial: Trial) -> Recipe:
        """The recipe with a trial's settings."""
        return space.applied(self.recipe, trial.settings)

    def _tried(self, trial: Trial) -> bool:
        """Train and measure; whether that could be done."""
        start = time.monotonic()
        shown = ", ".join(f"{key}={value}" for key, value in trial.settings.items())
        logger.info("trial %d: %s", trial.number, shown)
        seen = Tokens()
        watch = [Watch(self.judge, RUNGS, self._reached(trial))] if self._prunes else []
        try:
            job = train(self.settled(trial), self.folder(trial), callbacks=(seen, *watch))
            value, facts = self.judge.judged(job)
        except PrunedError:
            forget_student(self.folder(trial))
            self.study.finish(trial, "pruned", seconds=time.monotonic() - start, tokens=seen.count)
            return True
        except FullDiskError:
            raise
        except (UserError, RuntimeError, MemoryError) as error:
            logger.warning("trial %d failed: %s", trial.number, error)
            seconds = time.monotonic() - start
            self.study.finish(trial, "fail", seconds=seconds, tokens=seen.count, error=first_line(error))
            return False
        seconds, by_query = time.monotonic() - start, dev_values(job.out).tolist()
        self.study.finish(trial, "complete", value, by_query, seconds=seconds, **facts)
        logger.info("trial %d: dev %s %s, in %s", trial.number, self.judge.measure, number(value), clock(seconds))
        return True

    @property
    def _prunes(self) -> bool:
        """Whether trials are ended early: not where a student that is worse but cheaper may be wanted."""
        return self.recipe.tune.pruning == "halving" and self.recipe.tune.against is None

    def _reached(self, trial: Trial) -> Callable[[int, float], bool]:
        def reached(rung: int, value: float) -> bool:
            stays = self.study.reach(trial, rung, value)
            verb = "goes on" if stays else "ends here, for others did better"
            logger.info(
                "trial %d, %d %% trained: dev %s %s; it %s",
                trial.number, 100 * RUNGS[rung], self.judge.measure, number(value), verb,
            )  # fmt: skip
            return stays

        return reached

    def _forget_losers(self) -> None:
        """Remove the students of trials that cannot be used any more: fifty of them would fill a disk."""
        with self.study.claims.wait("tidy"):
            trials, against = self.study.trials, self.recipe.tune.against
            kept = [*self.best(self.recipe.tune.finalists), *(front(trials, against) if against else [])]
            numbers = {trial.number for trial in kept}
            for trial in trials:
                if trial.finished and trial.number not in numbers:
                    forget_student(self.folder(trial))


@contextmanager
def begun(recipe: Recipe, folder: Path, storage: str | None, name: str) -> Iterator[Search]:
    """A search, new or continued, with the recipe's own settings trained.

    Args:
        recipe: With its section ``tune``.
        folder: Of the search.
        storage: Database of its trials; ``None``: a file in the folder.
        name: The search's name there.
    """
    config = recipe.tune
    study = Study(folder, space.read(recipe), config.sampler, recipe.seed, config.against, storage, name)
    with closing(study):
        own = train(recipe, folder / RUNS / OWN)
        yield Search(recipe, folder, study, Judge.of(own, folder), own)


def front(trials: Sequence[Trial], against: str) -> list[Trial]:
    """The trials that none matches both in the measure and in a fact that is to be small, and beats in one of them."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return not_beaten(complete, lambda trial: (-(trial.value or 0.0), trial.facts[against]))


def spent(trials: Sequence[Trial]) -> dict[str, float]:
    """What trials have used up so far, by what a budget counts; of one that was killed, seconds of its last attempt."""
    used = {unit: float(sum(trial.facts.get(unit, 0) for trial in trials)) for unit in ("tokens", "seconds")}
    return {"trials": len(trials), **used}
