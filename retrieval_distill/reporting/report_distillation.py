"""The parts of ``report.json`` on distillation: the gate, the best rival, the choice, and fidelity to the teacher.

Knows the shape of these results; must not know how they were measured or how they are shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import ConfigDict, Field, model_validator

from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.reporting.rankings import SideBySide
from retrieval_distill.retrieval.hybrid import Dev
from retrieval_distill.runtime.documents import Part
from retrieval_distill.runtime.files import read_json


class Judged(Part):
    """The teacher against a baseline, whose best documents it reordered."""

    baseline: float
    """The baseline's mean on the dev queries."""
    teacher: float
    """The mean in the teacher's order."""
    difference: float
    low: float
    high: float
    p: float
    detectable: float | None = None
    """The difference that so many queries would show."""


class Reordered(Part):
    """How far the teacher would change a baseline's order, where no dev query is judged."""

    same_first: float
    """Share of queries whose best document stays."""
    spearman: float
    """Mean rank correlation within queries."""


GateComparison = Judged | Reordered


class Gate(Part):
    """Whether the teacher was better than what it would replace, before training."""

    measure: str | None = None
    queries: int
    against: dict[str, GateComparison]
    better: bool | None
    """``null``: no dev query was judged."""


class ComparedSystem(Part):
    """A system of a comparison, with its mean under the measure's name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    system: str

    @model_validator(mode="after")
    def _has_one_measure(self) -> Self:
        if len(self.__pydantic_extra__) != 1:
            raise ValueError("expected the mean of one measure")
        return self


class BestUntrained(ComparedSystem):
    """The best system that needs no training, with its mean under the measure's name, and the student against it."""

    student_minus: float
    """The student's mean less this system's."""
    low: float
    high: float
    """The ends of its corrected 95 % interval."""
    p: float
    """Corrected."""

    @property
    def theirs(self) -> str:
        """The system, as a difference names it."""
        return self.system

    @property
    def mean(self) -> float:
        """The difference."""
        return self.student_minus


class Use(ComparedSystem):
    """Which of the student and its fusion with BM25 to use, with its mean under the measure's name."""

    decided_on: str
    """The split that decided."""
    dev: Dev
    best_untrained: str
    minus_best_untrained: float
    """What the chosen one has over the best untrained system on the test queries."""
    low: float
    high: float
    """The ends of its corrected 95 % interval."""
    p: float
    """Corrected."""


class Distillation(Part):
    """What distillation gave, in the first measure."""

    retention: float | None
    """The student's mean as a share of the teacher's; ``null`` where the teacher's is 0."""
    gain_kept: float | None
    """The share of the teacher's gain over the start model; ``null`` where it gains nothing."""
    gate: Gate | None = None
    best_untrained: BestUntrained | None = None
    use: Use | None = None
    """``null``: no dev query is judged, and the test queries must not choose."""


class Fidelity(Part):
    """How faithful the student is to its teacher, over the documents that the teacher reranked; means over queries."""

    depth: int
    """Documents of each query."""
    temperatures: dict[str, float] = Field({})
    """Of the two distributions that ``kl`` compares."""
    queries: int
    kl: Mean | None
    """KL divergence from the teacher, in nats."""
    spearman: Mean | None
    kendall: Mean | None
    overlap: dict[str, Mean | None]
    """By depth, the share of the teacher's best documents that are among the student's."""
    retention: Mean | None
    """The student's share of the teacher's quality; ``null`` where that is not shown to be above 0."""
    gain_kept: Mean | None
    """The student's share of the teacher's gain over the start model; ``null`` likewise."""
    worst: list[SideBySide] = Field([])
    """The queries of largest ``kl``, with the best documents of both."""


def read_gate(folder: Path) -> Gate | None:
    """The gate's verdict in a run's folder; ``None``: it was not asked."""
    path = folder / "gate" / "gate.json"
    return Gate.model_validate(read_json(path)) if path.is_file() else None
