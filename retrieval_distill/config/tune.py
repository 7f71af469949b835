"""How better settings are searched for, and how people write what that may cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from retrieval_distill.config.section import Section

BUDGET = r"^\s*(\d+ ?trials?|\d+(\.\d+)?([eE]\+?\d+)? ?(tokens?|min|h))\s*$"
"""How a budget is written."""

UNITS = {"trial": ("trials", 1), "token": ("tokens", 1), "min": ("seconds", 60), "h": ("seconds", 3600)}
"""Unit as people write it -> what is counted, and how many of these it is."""


@dataclass(frozen=True)
class Budget:
    """An amount of something that a search spends: ``trials``, ``tokens`` or ``seconds``."""

    amount: float
    unit: str

    @classmethod
    def of(cls, text: str) -> Budget:
        """A budget as ``BUDGET`` has it."""
        number, unit = re.findall(r"[\d.]+(?:[eE]\+?\d+)?|[a-z]+", text)
        counted, times = UNITS[unit.removesuffix("s")]
        return cls(float(number) * times, counted)


class TuneConfig(Section):
    """A search for settings, by `tune`; `run` does not read it."""

    space: dict[str, str | tuple[Any, ...]] | None = Field(None, min_length=1)
    """Key of the recipe, such as ``training.learning_rate`` -> a list of its values, or a range: ``16..64`` of whole
    numbers, ``0.5..2.0`` of any, ``16..64 step 16``, ``1e-5..5e-5 log`` for one that is drawn by its logarithm.
    ``None``: the ranges that are usually recommended, as far as they have an effect in the recipe: learning rate 1e-5
    to 5e-5, 16 to 64 queries per step, the teacher's temperature 1 to 4, 3 to 10 epochs."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """``tpe`` draws near settings that did well (Tree-structured Parzen Estimator, after ten random ones); ``grid``
    tries every list and step, and of a range without steps both ends and the middle."""
    budget: str = Field("30 trials", pattern=BUDGET)
    """When no further trial begins: ``30 trials``; ``90 min`` or ``2 h`` of trials, those of several processes added
    up; or ``1e9 tokens`` that trials were trained on, without padding. A search that is asked for again with more goes
    on."""
    pruning: Literal["halving", "none"] = "halving"
    """``halving`` ends a trial at a quarter and at half of its training, unless it is among the better half of those
    that came as far (asynchronous successive halving, arXiv 1810.05934)."""
    against: Literal["latency", "parameters", "dimensions"] | None = None
    """What is to be small while the measure is to be large: ``latency`` of a query's vector, ``parameters`` of the
    student, or ``dimensions`` of a vector. The settings that none beats in both are listed, with a recipe for each, and
    no trial is ended early. ``None``: the measure alone counts."""
    finalists: int = Field(3, ge=1)
    """The best trials, whose training is repeated with other seeds before one is chosen."""
    seeds: int = Field(3, ge=1)
    """Trainings of each finalist and of the recipe's own settings, each with a seed of its own."""
    dev_queries: int | None = Field(None, ge=1)
    """Dev queries that compare trials, drawn by the seed; ``None``: all."""
    dev_documents: int = Field(2000, ge=10)
    """Documents they are asked over, as for ``training.dev_documents``."""
