"""The study: which settings are tried, and what became of each, in a SQLite file that survives any kill.

Knows Optuna, spaces and numbers; must not know recipes, or how a setting is tried. What is suggested for a trial
depends on the seed, the trial's number and the trials before it, so a search that was killed suggests the same as one
that was not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.reporting.tuning_file import Trial
from retrieval_distill.tuning.space import Choices, Range, Space, grid

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

FILE = "study.db"

NAME = "tune"
"""The study's name in its file."""

HALVES = {1: 0.25, 2: 0.5}
"""Rung -> the share of its training after which a trial is compared with others that came as far."""

ENOUGH = 8
"""Finished trials from which the importance of a key is estimated."""


class Study:
    """The trials of one search.

    Args:
        folder: Where its file is, or is to be.
        space: What is searched.
        sampler: ``tpe``, ``random`` or ``grid``.
        seed: Of all suggestions.

    Raises:
        UserError: Optuna is not installed.
    """

    def __init__(self, folder: Path, space: Space, sampler: str, seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError("tune needs: pip install 'retrieval-distill[tune]'") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self.space, self.sampler, self.seed = space, sampler, seed
        self._distributions = {key: _distribution(knob) for key, knob in space.items()}
        storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / FILE).absolute()}")
        study = optuna.create_study(storage=storage, study_name=NAME, direction="maximize", load_if_exists=True)
        self._storage, self._study = storage, storage.get_study_id_from_name(study.study_name)

    @property
    def trials(self) -> list[Trial]:
        """All trials in the order in which they began."""
        return [self._trial(found) for found in self._frozen()]

    @property
    def most(self) -> int | None:
        """How many trials there can be; ``None``: as many as one likes."""
        return len(grid(self.space)) if self.sampler == "grid" else None

    def begin(self) -> Trial:
        """The trial that was under way when the search was killed, or the next one."""
        for trial in self.trials:
            if not trial.finished:
                return trial
        before = self._frozen()
        suggested = self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState.RUNNING,
            params=self._suggestion(before),
            distributions=self._distributions,
        )
        self._storage.create_new_trial(self._study, suggested)
        return self.trials[-1]

    def reach(self, trial: Trial, rung: int, value: float) -> bool:
        """Note a trial's measure at a rung; whether it is among the better half of the trials that came as far before.

        Li et al.: A system for massively parallel hyperparameter tuning (ASHA), MLSys 2020, arXiv 1810.05934, with a
        reduction factor of 2.
        """
        self._storage.set_trial_intermediate_value(self._id(trial), rung, value)
        others = [other.rungs[rung] for other in self.trials[: trial.number] if rung in other.rungs]
        better = sum(other > value for other in others)
        return better < -(-(len(others) + 1) // 2)

    def finish(self, trial: Trial, state: str, value: float | None = None, **facts: Any) -> None:
        """Say what became of a trial; of a pruned one the last rung's measure is its value."""
        if state == "pruned":
            [found] = [other for other in self.trials if other.number == trial.number]
            value = found.rungs[max(found.rungs)]
        for name, fact in facts.items():
            self._storage.set_trial_user_attr(self._id(trial), name, fact)
        ended = self._optuna.trial.TrialState[state.upper()]
        self._storage.set_trial_state_values(self._id(trial), ended, None if value is None else [value])

    def importance(self) -> dict[str, float]:
        """Key -> how much of the differences between trials it explains, the largest first; in all 1.

        Empty with fewer than ``ENOUGH`` complete trials, or where all of them are alike. Watanabe, Bansal, Hutter:
        PED-ANOVA, IJCAI 2023, arXiv 2304.10255.
        """
        values = {trial.value for trial in self.trials if trial.state == "complete"}
        if len(values) < ENOUGH:
            return {}
        study = self._optuna.load_study(study_name=NAME, storage=self._storage)
        return dict(self._optuna.importance.get_param_importances(study))

    def close(self) -> None:
        """Let go of the file."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _suggestion(self, before: Sequence[FrozenTrial]) -> dict[str, Any]:
        """Values for the next trial, as Optuna keeps them."""
        if self.sampler == "grid":
            return {key: _kept(self.space[key], value) for key, value in grid(self.space)[len(before)].items()}
        seed = int(np.random.SeedSequence([self.seed, len(before)]).generate_state(1)[0])
        samplers = self._optuna.samplers
        sampler = samplers.TPESampler(seed=seed) if self.sampler == "tpe" else samplers.RandomSampler(seed=seed)
        study = self._optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(before)
        params = study.ask(self._distributions).params
        return {key: _written(self.space[key], value) for key, value in params.items()}

    def _frozen(self) -> list[FrozenTrial]:
        return sorted(self._storage.get_all_trials(self._study), key=lambda trial: trial.number)

    def _trial(self, found: FrozenTrial) -> Trial:
        settings = {key: _value(self.space[key], found.params[key]) for key in self.space}
        return Trial(
            found.number, settings, found.state.name.lower(), found.value, found.intermediate_values, found.user_attrs
        )

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
