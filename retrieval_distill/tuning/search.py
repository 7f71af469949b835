"""The search: one trial after another until the budget is spent.

Knows trials and the study; must not know how a student is trained, or which of them is chosen in the end.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval_distill.config import Recipe
from retrieval_distill.errors import UserError, first_line
from retrieval_distill.formatting import number
from retrieval_distill.reporting.tuning_file import Trial
from retrieval_distill.runtime.disk import FullDiskError
from retrieval_distill.runtime.progress import clock
from retrieval_distill.tuning import space
from retrieval_distill.tuning.study import HALVES, Study
from retrieval_distill.tuning.trials import RUNS, Judge, PrunedError, Watch, forget_student, train

logger = logging.getLogger("retrieval_distill")

FAILURES = 3
"""Trials that may fail one after another before the search stops: what is wrong is then not the settings."""


@dataclass(frozen=True)
class Search:
    """A recipe whose settings are varied.

    Args:
        recipe: With its section ``tune``.
        out: Folder of the search.
        study: What was tried.
        judge: What compares students.
    """

    recipe: Recipe
    out: Path
    study: Study
    judge: Judge

    def run(self) -> None:
        """Try settings until the budget is spent; a trial that was under way is finished first."""
        spent, failed = budget(self.recipe.tune.budget), 0
        while True:
            trials = self.study.trials
            under_way = any(not trial.finished for trial in trials)
            if not under_way and (spent(trials) or len(trials) == self.study.most):
                return
            trial = self.study.begin()
            failed = 0 if self._tried(trial) else failed + 1
            if failed == FAILURES:
                error = self.study.trials[trial.number].facts["error"]
                raise UserError(f"{FAILURES} trials failed one after another; the last one: {error}")
            self._forget_losers()

    def best(self, count: int) -> list[Trial]:
        """The trials that did best, of equal ones the first."""
        complete = [trial for trial in self.study.trials if trial.state == "complete"]
        return sorted(complete, key=lambda trial: -(trial.value or 0.0))[:count]

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
        watch = [Watch(self.judge, HALVES, self._reached(trial))] if self.recipe.tune.pruning == "halving" else []
        try:
            job = train(self.settled(trial), self.folder(trial), callbacks=tuple(watch))
            value, facts = self.judge.judged(job)
        except PrunedError:
            forget_student(self.folder(trial))
            self.study.finish(trial, "pruned", seconds=time.monotonic() - start)
            return True
        except FullDiskError:
            raise
        except (UserError, RuntimeError, MemoryError) as error:
            logger.warning("trial %d failed: %s", trial.number, error)
            self.study.finish(trial, "fail", seconds=time.monotonic() - start, error=first_line(error))
            return False
        seconds = time.monotonic() - start
        self.study.finish(trial, "complete", value, seconds=seconds, **facts)
        logger.info("trial %d: dev %s %s, in %s", trial.number, self.judge.measure, number(value), clock(seconds))
        return True

    def _reached(self, trial: Trial) -> Callable[[int, float], None]:
        def reached(rung: int, value: float) -> None:
            stays = self.study.reach(trial, rung, value)
            verb = "goes on" if stays else "ends here, for others did better"
            logger.info(
                "trial %d, %d %% trained: dev %s %s; it %s",
                trial.number, 100 * HALVES[rung], self.judge.measure, number(value), verb,
            )  # fmt: skip
            if not stays:
                raise PrunedError

        return reached

    def _forget_losers(self) -> None:
        """Remove the students of trials that cannot be finalists any more: fifty of them would fill a disk."""
        best = {trial.number for trial in self.best(self.recipe.tune.finalists)}
        for trial in self.study.trials:
            if trial.finished and trial.number not in best:
                forget_student(self.folder(trial))


def budget(text: str) -> Callable[[Sequence[Trial]], bool]:
    """Whether trials have used up a budget such as ``30 trials`` or ``2 h``; of one that was killed, the last attempt
    counts.
    """
    parts = re.fullmatch(r"\s*([\d.]+)\s*(trials?|h|min)\s*", text)
    assert parts, text  # the recipe's schema refuses others
    amount, unit = float(parts[1]), parts[2]
    if unit.startswith("trial"):
        return lambda trials: sum(trial.finished for trial in trials) >= amount
    seconds = amount * {"h": 3600, "min": 60}[unit]
    return lambda trials: sum(_seconds(trial.facts) for trial in trials) >= seconds


def _seconds(facts: dict[str, Any]) -> float:
    return float(facts.get("seconds", 0.0))
