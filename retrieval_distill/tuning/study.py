"""The study: which settings are tried, and what became of each, in a database that survives any kill.

Knows Optuna, spaces and numbers; must not know recipes, or how a setting is tried. What is suggested for a trial
depends on the seed, the trial's number and the trials before it, so a search that was killed suggests the same as one
that was not. Several processes may search at once: a trial is claimed by the one that tries it, and the trial of a
process that ended is taken up by another.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.reporting.tuning_file import Trial
from retrieval_distill.tuning import storage as storages
from retrieval_distill.tuning.space import Choices, Range, Space, grid

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

logger = logging.getLogger("retrieval_distill")

NAME = "tune"
"""The study's name in a file of its own."""

BY_QUERY = "by_query"
"""Of a trial's attributes, the one that is no fact: the measure of every dev query."""

ENOUGH = 8
"""Finished trials from which the importance of a key is estimated."""


class Study:
    """The trials of one search.

    Args:
        folder: Where its file is, or is to be.
        space: What is searched.
        sampler: ``tpe``, ``random`` or ``grid``.
        seed: Of all suggestions.
        against: The fact that is to be small while the measure is to be large; ``None``: the measure alone counts.
        storage: Where the trials are kept, if not in the folder; see :mod:`retrieval_distill.tuning.storage`.
        name: The study's name there.

    Raises:
        UserError: Optuna is not installed, or the storage cannot be reached.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        sampler: str,
        seed: int,
        against: str | None = None,
        storage: str | None = None,
        name: str = NAME,
    ) -> None:
        optuna = storages.optuna()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self.space, self.sampler, self.seed, self.against, self.name = space, sampler, seed, against, name
        self._directions = ["maximize", *(["minimize"] if against else [])]
        self._distributions = {key: _distribution(knob) for key, knob in space.items()}
        self._held = ExitStack()
        self._storage, self.claims = storages.opened(storage or storages.of_folder(folder), name)
        with self.claims.wait("begin"):
            optuna.create_study(
                storage=self._storage, study_name=name, directions=self._directions, load_if_exists=True
            )
        self._study = self._storage.get_study_id_from_name(name)

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order in which they began."""
        return [self._trial(found) for found in self._frozen()]

    @property
    def most(self) -> int | None:
        """How many trials there can be; ``None``: as many as one likes."""
        return len(grid(self.space)) if self.sampler == "grid" else None

    @property
    def under_way(self) -> bool:
        """Whether any trial has not ended, be it this process's or another's."""
        return any(not trial.finished for trial in self.trials)

    def begin(self, enough: Callable[[Sequence[Trial]], bool] = lambda trials: False) -> Trial | None:
        """The trial of a process that was killed, or the next one; until it is finished it is this process's alone.

        Args:
            enough: Whether these trials, with those that others are trying, are all that is wanted.

        Returns:
            ``None``: there are enough, or no more settings; others may still be trying theirs.
        """
        with self.claims.wait("begin"):
            for trial in self.trials:
                if not trial.finished and self._claimed(trial.number):
                    return trial
            if enough(self.trials) or len(self.trials) == self.most:
                return None
            before = self._frozen()
            suggested = self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState.RUNNING,
                params=self._suggestion(before),
                distributions=self._distributions,
            )
            self._storage.create_new_trial(self._study, suggested)
            self._claimed(len(before))
            return self.trials[-1]

    def _claimed(self, number: int) -> bool:
        """Whether this process may go on with a trial that has not ended."""
        with ExitStack() as held:
            free = held.enter_context(self.claims.attempt(f"trial-{number}"))
            if not free or self.trials[number].finished:  # by the one that held it a moment ago
                return False
            self._held = held.pop_all()
        return True

    def reach(self, trial: Trial, rung: int, value: float) -> bool:
        """Note a trial's measure at a rung; whether it is among the better half of the trials that came as far before.

        Li et al.: A system for massively parallel hyperparameter tuning (ASHA), MLSys 2020, arXiv 1810.05934, with a
        reduction factor of 2.
        """
        self._storage.set_trial_intermediate_value(self._id(trial), rung, value)
        others = [other.rungs[rung] for other in self.trials[: trial.number] if rung in other.rungs]
        better = sum(other > value for other in others)
        return better < -(-(len(others) + 1) // 2)

    def finish(
        self,
        trial: Trial,
        state: str,
        value: float | None = None,
        by_query: Sequence[float] | None = None,
        **facts: Any,
    ) -> None:
        """Say what became of a trial; of a pruned one the last rung's measure is its value.

        Args:
            trial: As :meth:`begin` gave it.
            state: ``complete``, ``pruned`` or ``fail``.
            value: The measure; ``None``: it has none.
            by_query: The measure of every dev query; ``None``: not known.
            facts: What it cost, and what it is to be compared with, see ``against``.
        """
        if state == "pruned":
            value = self.trials[trial.number].rungs[max(self.trials[trial.number].rungs)]
        if by_query is not None:
            facts[BY_QUERY] = list(by_query)
        values = None if value is None else [value, *([facts[self.against]] if self.against else [])]
        ended = self._optuna.trial.TrialState[state.upper()]
        try:
            for name, fact in facts.items():
                self._storage.set_trial_user_attr(self._id(trial), name, fact)
            self._storage.set_trial_state_values(self._id(trial), ended, values)
        except self._optuna.exceptions.UpdateFinishedTrialError:  # a connection was lost, and the claim with it
            logger.warning("trial %d was finished by another process meanwhile", trial.number)
        finally:
            self._held.close()

    def by_query(self, trial: Trial) -> list[float] | None:
        """The measure of every dev query; ``None``: an earlier version did not keep it here."""
        return self._frozen()[trial.number].user_attrs.get(BY_QUERY)

    def note(self, name: str, value: Any) -> None:
        """Keep a plain value about the whole search."""
        self._storage.set_study_user_attr(self._study, name, value)

    def noted(self, name: str) -> Any:
        """The same, if there is one."""
        return self._storage.get_study_user_attrs(self._study).get(name)

    def importance(self) -> dict[str, float]:
        """Key -> how much of the differences between trials it explains, the largest first; in all 1.

        Empty with fewer than ``ENOUGH`` complete trials, or where all of them are alike. Watanabe, Bansal, Hutter:
        PED-ANOVA, IJCAI 2023, arXiv 2304.10255.
        """
        values = {trial.value for trial in self.trials if trial.state == "complete"}
        if len(values) < ENOUGH:
            return {}
        study = self._optuna.load_study(study_name=self.name, storage=self._storage)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's note that a low target is a good one, as it is here
            return dict(self._optuna.importance.get_param_importances(study, target=lambda trial: -trial.values[0]))

    def close(self) -> None:
        """Let go of the storage, and of a trial that is under way."""
        self._held.close()
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _suggestion(self, before: Sequence[FrozenTrial]) -> dict[str, Any]:
        """Values for the next trial, as Optuna keeps them."""
        if self.sampler == "grid":
            return {key: _kept(self.space[key], value) for key, value in grid(self.space)[len(before)].items()}
        seed = int(np.random.SeedSequence([self.seed, len(before)]).generate_state(1)[0])
        samplers = self._optuna.samplers
        sampler = samplers.TPESampler(seed=seed) if self.sampler == "tpe" else samplers.RandomSampler(seed=seed)
        study = self._optuna.create_study(directions=self._directions, sampler=sampler)
        study.add_trials(before)
        params = study.ask(self._distributions).params
        return {key: _written(self.space[key], value) for key, value in params.items()}

    def _frozen(self) -> list[FrozenTrial]:
        return sorted(self._storage.get_all_trials(self._study), key=lambda trial: trial.number)

    def _trial(self, found: FrozenTrial) -> Trial:
        settings = {key: _value(self.space[key], found.params[key]) for key in self.space}
        facts = {name: fact for name, fact in found.user_attrs.items() if name != BY_QUERY}
        value = found.values[0] if found.values else None
        return Trial(found.number, settings, found.state.name.lower(), value, found.intermediate_values, facts)

    def _id(self, trial: Trial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study, trial.number)


def _distribution(knob: Range | Choices) -> BaseDistribution:
    from optuna import distributions

    if isinstance(knob, Choices):
        return distributions.CategoricalDistribution([json.dumps(value) for value in knob.values])
    low, high = knob.low, knob.points[-1]
    if knob.whole:
        return distributions.IntDistribution(int(low), int(high), log=knob.log, step=int(knob.step or 1))
    return distributions.FloatDistribution(low, high, log=knob.log, step=knob.step)


def _kept(knob: Range | Choices, value: Any) -> Any:
    """A value as Optuna keeps it."""
    return json.dumps(value) if isinstance(knob, Choices) else value


def _value(knob: Range | Choices, kept: Any) -> Any:
    """A value as the recipe takes it."""
    return json.loads(kept) if isinstance(knob, Choices) else kept


def _written(knob: Range | Choices, drawn: Any) -> Any:
    """A drawn value with the digits that a person would write."""
    return knob.rounded(drawn) if isinstance(knob, Range) and not knob.whole else drawn
