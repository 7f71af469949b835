"""The parts of ``report.json`` on systems: what each reaches and what it costs.

Knows the shape of measured systems; must not know how they were measured or how they are shown.
"""

from __future__ import annotations

from pydantic import ConfigDict, Field

from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.retrieval.hybrid import Dev
from retrieval_distill.runtime.documents import Part


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
    """By measure, what the fusion reaches on the test queries without tuning, both sides counting alike."""


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
    encode: dict[str, Encoding] = Field({})
    """Encoding of ``short``, ``medium`` and ``long`` documents: thirds of the corpus."""
    peak_memory_bytes: int | None = None
    """Of the whole process, which holds every system, while this one was asked."""
    cost_per_thousand_queries: float | None = None
    """What its endpoint asks for them, in the currency of the recipe's prices."""
    hardware: str | None = None
    """What it was timed on."""
    timed_as: str | None = None
    """The system whose timing this is: itself, or one that does the same work; ``requests``: the run's own requests to
    an endpoint; ``scoring rate``: what the teacher's scores took."""
    fusion: Fused | None = None

    @property
    def measures(self) -> dict[str, Measured]:
        """Measure -> what was reached."""
        return self.__pydantic_extra__


class Systems(Part):
    """Every system over the same queries."""

    systems: dict[str, System]
    """``bm25``, ``start``, ``hybrid-start``, ``student``, ``hybrid-student``, ``teacher``, baselines, rerankers."""
    minimum_detectable: dict[str, float | None] = Field({})
    """By measure, the difference that so many queries show four times in five; ``null`` for a single query."""

    def values(self, measure: str) -> dict[str, Measured]:
        """System -> what it reached in a measure."""
        return {name: system.measures[measure] for name, system in self.systems.items()}


class Split(Systems):
    """What the systems reach on a split beside the test split, on which nothing is trained or tuned."""

    queries: int
    measures: list[str]
    """The headline first."""
