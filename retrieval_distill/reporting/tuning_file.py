"""``tuning.json`` of ``tune``: the settings that were tried and the ones that were chosen, as a type.

Knows the shape of the result; must not know how it was measured or how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from retrieval_distill.evaluation.seed_summary import Seeds
from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.runtime.documents import Document, Part

RUNGS = {1: 0.25, 2: 0.5}
"""Rung -> share of the training after which it is reached."""


class DevSplit(Part):
    """The dev queries, and the pool of documents over which they were asked."""

    split: str | None
    queries: int
    documents: int


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, or are being tried."""

    number: int
    settings: dict[str, Any]
    """Key of the recipe -> value."""
    state: str
    """``running``, ``complete``, ``pruned`` or ``fail``."""
    value: float | None
    """The measure on dev, for a pruned trial at its last rung; ``null`` while it runs, or if it failed."""
    rungs: dict[int, float]
    """The measure at each rung that it reached, see ``RUNGS``."""
    facts: dict[str, Any]
    """``seconds`` in total, for ``training`` and for ``dev``; ``tokens`` that it was trained on; of its student
    ``parameters``, ``dimensions`` and, where it was measured, ``latency``; ``error`` if it failed."""

    @property
    def name(self) -> str:
        """Its name among the finalists."""
        return f"trial {self.number}"

    @property
    def finished(self) -> bool:
        """Whether it counts towards the budget."""
        return self.state != "running"


class FinalistSummary(Part):
    """Settings that were trained with several seeds, measured on dev."""

    name: str
    """``own`` for the recipe's own settings, else ``trial NUMBER``."""
    settings: dict[str, Any]
    """Key of the recipe -> value; empty for the recipe's own."""
    mean: float
    low: float
    high: float
    """The 95 % interval over seeds and queries is from ``low`` to ``high``."""
    standard_deviation: float
    """Of the seeds' means."""
    seeds: int
    queries: int
    means: list[float]
    """The mean of each seed."""


class Compared(Part):
    """A student by its quality and its cost, in a search that asks for both."""

    name: str
    """``own`` for the recipe's own settings, else ``trial NUMBER``."""
    value: float
    """The measure on dev."""
    cost: float
    """Milliseconds for the vector of one query, or the number of parameters or of dimensions."""
    front: bool
    """Whether no other student matches it in both and beats it in one of them (Pareto)."""


class TestedMeasure(Part):
    """One measure of the chosen and of the recipe's own settings on test queries."""

    tuned: Seeds
    own: Seeds
    difference: Mean
    """Tuned minus own."""
    p: float


class TestResult(Part):
    """The chosen settings on test queries."""

    queries: int
    measures: dict[str, TestedMeasure]
    asked: list[str]
    """Fingerprint of each question that was put to test in this search."""


class TuningReport(Document):
    """A finished search for settings."""

    file = "tuning.json"
    noun = "report of a search for settings"
    remedy = "run the search again, which continues it"

    recipe: str
    measure: str
    space: dict[str, str]
    """Key of the recipe -> the values searched."""
    sampler: str
    pruning: str
    budget: str
    seeds: int
    """Seeds with which a finalist is trained."""
    dev: DevSplit
    own: FinalistSummary
    """The recipe's own settings."""
    trials: list[Trial]
    importance: dict[str, float]
    """Key of the recipe -> share of the differences between trials that it explains."""
    finalists: list[FinalistSummary]
    chosen: FinalistSummary
    level: list[str]
    """Names of the settings that dev cannot tell from the chosen ones, cheapest first."""
    p_holm: dict[str, float]
    """Name -> p-value of its difference from the chosen settings on dev, corrected (Holm)."""
    worse: list[str]
    """Names of the settings that are worse on dev."""
    detectable: float | None
    """The difference that so many dev queries show four times in five."""
    against: str | None = None
    """What is to be small while the measure is to be large: ``latency``, ``parameters`` or ``dimensions``; ``null``:
    the measure alone counts."""
    compared: tuple[Compared, ...] = ()
    """Every student that was trained to the end, where both count."""
    test: TestResult | None
    """``null``: there is no test split, or the recipe's own settings were chosen."""

    @property
    def front(self) -> list[Compared]:
        """The students that no other beats in both, cheapest first."""
        return sorted((found for found in self.compared if found.front), key=lambda found: found.cost)

    def is_chosen(self, trial: Trial) -> bool:
        """Whether a trial's settings were chosen."""
        return self.chosen.name == trial.name
