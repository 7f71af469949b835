"""Calibration: raw Runs of one or more teachers become the scores that objectives see.

Knows Runs and judgements; must not know models or stores.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import stages
from retrieval_distill.teacher.calibration.fit_parameters import combine, fit_temperature, fit_weights
from retrieval_distill.teacher.calibration.normalise import check_name, is_squashed, normalise, unsquash

__all__ = ["Calibration", "Member", "combine", "fit_temperature", "fit_weights", "is_squashed", "normalise", "unsquash"]

logger = logging.getLogger("retrieval_distill")

Squashed = Literal["undo", "keep", "refuse"]
"""Treatment of scores that went through a sigmoid."""

SQUASHED: tuple[str, ...] = get_args(Squashed)


@dataclass(frozen=True)
class Member:
    """Calibration of one teacher: undo a sigmoid or not, normalise, and weight."""

    normalise: str = "none"
    temperature: float = 1.0
    weight: float = 1.0
    unsquash: bool = False

    def __post_init__(self) -> None:
        check_name(self.normalise)
        if not (np.isfinite([self.temperature, self.weight]).all() and self.temperature > 0 and self.weight >= 0):
            raise UserError(f"temperature {self.temperature} must be above 0, and weight {self.weight} at least 0")

    def normalise_run(self, raw: Run, name: str) -> Run:
        """The member's scores before weighting; ``name`` is for messages."""
        return normalise(unsquash(raw, name) if self.unsquash else raw, self.normalise, self.temperature)


FILE = "calibration.json"


@dataclass(frozen=True)
class Calibration:
    """Calibration of all teachers, one member each."""

    members: tuple[Member, ...]

    @classmethod
    def fit(
        cls,
        raw_dev: Sequence[Run] | None,
        qrels: Qrels | None,
        normalise: Sequence[str],
        weights: Sequence[float] | None,
        squashed: Squashed | Sequence[Squashed],
    ) -> Calibration:
        """Fit the temperatures that ``normalise`` asks for, and the weights if none are given.

        The weight of a single member is 1 unless given, because its scale is set by the temperature.

        Args:
            raw_dev: Each member's raw Run of judged queries. If nothing is fitted, any raw Runs will do to detect a
                sigmoid; ``None``: scores are used as they are.
            qrels: Judgements of these queries.
            normalise: For each member a name in ``NORMALISATIONS``.
            weights: One per member; ``None``: fit them.
            squashed: Treatment of scores that went through a sigmoid, for all members or for each.

        Raises:
            UserError: A fit needs judged queries and there are none, squashed scores are refused or cannot be undone,
                or an option is invalid.
        """
        runs, count = list(raw_dev or ()), len(normalise)
        rules = [squashed] * count if isinstance(squashed, str) else list(squashed)
        given = [1.0] if weights is None and count == 1 else weights
        _check_counts({"weights": given, "squashed": rules, "runs": runs or None}, count)
        if ("temperature" in normalise or given is None) and not (runs and qrels):
            raise UserError(
                "fitting teacher temperatures or weights needs judged dev queries; add a dev split to the dataset, or "
                "choose another normalisation and set the weights"
            )
        seen: list[Run | None] = [*runs] if runs else [None] * count
        each = zip(normalise, rules, _names(count), seen, strict=True)
        members = [_fit_member(how, rule, name, run, qrels or {}) for how, rule, name, run in each]
        if given is None:
            given = fit_weights(_normalise_all(members, runs), qrels or {}).tolist()
        if not any(given):
            raise UserError("teacher weights: at least one must be above 0")
        return cls(tuple(replace(member, weight=float(w)) for member, w in zip(members, given, strict=True)))

    def apply(self, raw: Sequence[Run]) -> Run:
        """Combine the members' raw Runs over the same pairs into the calibrated Run.

        Raises:
            UserError: The Runs hold different pairs, or a sigmoid cannot be undone.
        """
        return combine(_normalise_all(self.members, raw), [member.weight for member in self.members])

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return {"members": [asdict(member) for member in self.members]}

    def save(self, folder: str | Path) -> None:
        """Write ``calibration.json``."""
        stages.write_json(Path(folder) / FILE, self.to_json())

    @classmethod
    def open(cls, folder: str | Path) -> Calibration:
        """Read what :meth:`save` wrote.

        Raises:
            UserError: It is not there.
        """
        if not (Path(folder) / FILE).is_file():
            raise UserError(f"{folder}: no calibration there; the verb gate writes one")
        return cls.from_json(stages.read_json(Path(folder) / FILE))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Calibration:
        """From the result of :meth:`to_json`."""
        return cls(tuple(Member(**member) for member in value["members"]))


def _names(count: int) -> list[str]:
    return ["the teacher"] if count == 1 else [f"teacher {number + 1} of {count}" for number in range(count)]


def _normalise_all(members: Sequence[Member], raw: Sequence[Run]) -> list[Run]:
    each = zip(members, raw, _names(len(members)), strict=True)
    return [member.normalise_run(run, name) for member, run, name in each]


def _check_counts(options: Mapping[str, Sequence[Any] | None], count: int) -> None:
    for name, values in options.items():
        if values is not None and len(values) != count:
            raise UserError(f"{name}: {len(values)} given for {counted(count, 'teacher')}; each needs one")


def _fit_member(how: str, rule: str, name: str, run: Run | None, qrels: Qrels) -> Member:
    """A member without its weight; without a Run, nothing is detected or fitted."""
    if rule not in SQUASHED:
        raise UserError(f"squashed={rule!r} is unknown{nearest(rule, SQUASHED)}")
    if run is None:
        return Member(how)
    member = Member(how, unsquash=rule != "keep" and is_squashed(run))
    if member.unsquash and rule == "refuse":
        raise UserError(
            f"{name}: all scores lie between 0 and 1, as if squashed by a sigmoid, which leaves margins too small to "
            "learn from; score with raw logits (identity activation), or set squashed=undo or squashed=keep"
        )
    if member.unsquash:
        logger.warning("%s: all scores lie between 0 and 1, as after a sigmoid, which is undone", name)
    prepared = member.normalise_run(run, name)  # always, so that an error comes before the costly scoring
    return replace(member, temperature=fit_temperature(prepared, qrels)) if how == "temperature" else member
