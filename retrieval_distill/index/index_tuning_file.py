"""``tuning.json`` of an index: what ``index --kind auto`` tried and chose, as a type.

Knows the shape of the result; must not know how it was measured or how it is shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from retrieval_distill.config import IntentConfig
from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.index.operating_points import Point
from retrieval_distill.runtime.documents import Document, Part


class TuningQueries(Part):
    """The queries of a tuning, split in two."""

    chosen_by: int
    """Number of queries that the choice is based on."""
    measured_by: int
    """Number of other queries, on which the chosen index was measured."""
    source: str


class Percentiles(Part):
    """Milliseconds of a query."""

    p50: float
    p95: float


class Fresh(Part):
    """The chosen index on queries that it was not chosen by."""

    recall: Mean
    latency_ms: Percentiles


@dataclass(frozen=True)
class MeasuredPoint(Point):
    """An operating point, and whether it is on the Pareto front of recall, latency and memory."""

    front: bool


class IndexTuning(Document):
    """The indexes that were tried for an intent, and the one that was chosen."""

    file = "tuning.json"
    noun = "report of a tuned index"
    remedy = "build the index again"

    intent: IntentConfig
    documents: int
    dimensions: int
    queries: TuningQueries
    met: bool
    """Whether the chosen index meets the intent."""
    missed: list[str]
    """What it misses: ``recall``, ``memory``, ``latency``."""
    chosen: Point
    fresh: Fresh
    points: list[MeasuredPoint]
    skipped: dict[str, str] = Field({})
    """Kind -> why it was not tried."""
    hardware: str
    seconds: float
    """Duration of the whole tuning."""

    @property
    def front(self) -> list[MeasuredPoint]:
        """The Pareto front, fastest first."""
        return sorted((point for point in self.points if point.front), key=lambda point: point.milliseconds)

    def is_chosen(self, point: Point) -> bool:
        """Whether a point is the chosen one."""
        chosen = self.chosen
        return (point.kind, point.setting, point.rescore) == (chosen.kind, chosen.setting, chosen.rescore)
