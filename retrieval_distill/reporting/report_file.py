"""``report.json``: what is in it, as types; the one place that writes and reads it.

Knows the shape of what a run measured; must not know how it was measured or how it is shown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.reporting.rankings import SideBySide
from retrieval_distill.runtime.files import read_json, write_json
from retrieval_distill.runtime.stages import Manifest

FILE = "report.json"

VERSION = 2
"""The shape that is written. Reports of the first, which had no number, lack some parts, and are still read."""


class Part(BaseModel):
    """A part of a report; of one that a report lacks, the default stands."""

    model_config = ConfigDict(use_attribute_docstrings=True, populate_by_name=True)


class DatasetFacts(Part):
    """What was searched, and by how many queries."""

    name: str
    docs: int
    """Documents, or passages of them."""
    queries: dict[str, int]
    """Judged queries of each split."""


class Latency(Part):
    """Milliseconds of a query."""

    p50: float
    """Median."""
    p95: float | None = None
    """95th percentile."""
    low: float | None = None
    """Lowest median of a turn; with ``high`` a 97 % interval of the median."""
    high: float | None = None
    """Highest median of a turn."""


class Encoding(Part):
    """How fast documents of like length are encoded."""

    tokens: float
    """Mean tokens of these documents."""
    documents_per_second: float
    tokens_per_second: float


class DevMean(Part):
    """A mean over dev queries."""

    mean: float
    low: float | None = None
    high: float | None = None


class Dev(Part):
    """What the student and its fusion reach on the queries that chose between them, by measure."""

    student: dict[str, DevMean]
    fused: dict[str, DevMean] = Field(alias="hybrid-student")
    difference: Mean | None = None
    """What the fusion has over the student alone."""


class Fused(Part):
    """How a hybrid fuses BM25 with a bi-encoder."""

    method: str
    """``rank`` or ``score``."""
    dense: float
    """The bi-encoder's weight, from 0 to 1."""
    tuned: bool
    """Whether both were chosen on judged queries."""
    split: str | None = None
    """The split of those queries."""
    use: str | None = None
    """Which was better there: ``student`` or ``hybrid-student``."""
    dev: Dev | None = None
    untuned: dict[str, Mean]
    """By measure, what reciprocal ranks of equal weight reach on the test queries."""


class System(Part):
    """What a system reaches, by the names of the measures, and what it costs, as far as that was measured."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Measured]

    trained: bool | None = None
    """Whether the run trained it."""
    parameters: int | None = None
    dimensions: int | None = None
    """Of a vector."""
    max_length: int | None = None
    """Tokens that it reads of a document; missing: all."""
    model_bytes: int | None = None
    """Its weights as they compute."""
    index_bytes: int | None = None
    latency_ms: Latency | None = None
    """Of single queries, one after another."""
    cold_latency_ms: Latency | None = None
    """The same with cold caches."""
    index_search_ms: Latency | None = None
    """Of the index alone, the query's vector given."""
    queries_per_second: float | None = None
    documents_per_second: float | None = None
    """Documents encoded, over all lengths."""
    encode: dict[str, Encoding] = {}
    """Encoding of ``short``, ``medium`` and ``long`` documents: thirds of the corpus."""
    peak_memory_bytes: int | None = None
    """Of the whole process, which holds every system, while this one was asked."""
    hardware: str | None = None
    """What it was timed on."""
    timed_as: str | None = None
    """The system whose timing this is: itself, or one that does the same work."""
    fusion: Fused | None = None

    @property
    def measures(self) -> dict[str, Measured]:
        """Measure -> what was reached."""
        return self.__pydantic_extra__


class Systems(Part):
    """Every system over the same queries."""

    systems: dict[str, System]
    """``bm25``, ``start``, ``hybrid-start``, ``student``, ``hybrid-student``, ``teacher``, and baselines."""
    minimum_detectable: dict[str, float | None] = {}
    """By measure, the difference that so many queries show four times in five; ``null`` for a single query."""

    def values(self, measure: str) -> dict[str, Measured]:
        """System -> what it reached in a measure."""
        return {name: system.measures[measure] for name, system in self.systems.items()}


class Split(Systems):
    """What the systems reach on a split beside the test split, on which nothing is trained or tuned."""

    queries: int
    measures: list[str]
    """The headline first."""


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


class BestUntrained(Part):
    """The best system that needs no training, with its mean under the measure's name, and the student against it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    system: str
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


class Use(Part):
    """Which of the student and its fusion with BM25 to use, with its mean under the measure's name."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float]

    system: str
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
    temperatures: dict[str, float] = {}
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
    worst: list[SideBySide] = []
    """The queries of largest ``kl``, with the best documents of both."""


class Costs(Part):
    """What a stage cost, the last time that it ran."""

    seconds: float
    peak_memory_bytes: int
    counts: dict[str, Any]
    """What it made; each stage has its own."""
    skipped: bool = False
    """Whether this run found it done."""
    pairs_per_second: float | None = None
    documents_per_second: float | None = None
    steps_per_second: float | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Costs:
        """Those of a finished stage, with its rate where it counts units."""
        counts, seconds = manifest["counts"], max(manifest["seconds"], 1e-9)
        units = {"scored": "pairs_per_second", "embedded": "documents_per_second", "steps": "steps_per_second"}
        rates = {rate: round(counts[unit] / seconds, 2) for unit, rate in units.items() if counts.get(unit)}
        known = {key: manifest[key] for key in ("seconds", "peak_memory_bytes", "counts")}
        return cls(**known, skipped=manifest.get("skipped", False), **rates)

    @property
    def rates(self) -> dict[str, float]:
        """Unit -> how many of it per second."""
        found = {name: getattr(self, f"{name}_per_second") for name in ("pairs", "documents", "steps")}
        return {name: rate for name, rate in found.items() if rate is not None}


class RunReport(Systems):
    """What a run measured."""

    version: int = 1
    """Of this shape; missing: 1."""
    dataset: DatasetFacts
    also: dict[str, Split] = {}
    """By split, the same on splits that are measured beside the test split."""
    datasets: dict[str, dict[str, dict[str, Measured]]] = {}
    """Of a run on several datasets: dataset -> system -> measure."""
    distillation: Distillation
    fidelity: Fidelity | None = None
    stages: dict[str, Costs]
    environment: dict[str, Any]
    """The machine, and the ``versions`` of what ran on it."""
    recipe: dict[str, Any]
    """The whole recipe, as the run used it."""

    @property
    def measures(self) -> list[str]:
        """The measures, the headline first."""
        return list(self.recipe["evaluate"]["measures"])

    @property
    def headline(self) -> str:
        """The first measure."""
        return self.measures[0]

    def plain(self) -> dict[str, Any]:
        """The report as the values that JSON has."""
        return self.model_dump(exclude_unset=True, by_alias=True)


def read_gate(folder: Path) -> Gate | None:
    """The gate's verdict in a run's folder; ``None``: it was not asked."""
    path = folder / "gate" / "gate.json"
    return Gate.model_validate(read_json(path)) if path.is_file() else None


def write(folder: Path, report: RunReport) -> None:
    """Write a run's report into its folder."""
    write_json(folder / FILE, report.plain())


def read(folder: Path) -> RunReport | None:
    """The report in a run's folder; ``None``: there is none.

    Raises:
        UserError: It is damaged, no run's, or of a later version.
    """
    path = folder / FILE
    found = read_json(path) if path.is_file() else None
    if found is None:
        return None
    version = found.get("version", 1) if isinstance(found, dict) else 1
    if isinstance(version, int) and version > VERSION:
        raise UserError(f"{path}: a later version of retrieval-distill wrote this report; upgrade to read it")
    try:
        return RunReport.model_validate(found)
    except ValidationError as error:
        problem = error.errors()[0]
        at = ".".join(map(str, problem["loc"])) or "the whole"
        raise UserError(
            f"{path}: this is no report of a run ({at}: {problem['msg']}); run the recipe again, which writes it anew"
        ) from None
