"""``report.json``: the report of a run, as a type.

Knows the shape of what a run measured; must not know how it was measured or how it is shown.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.reporting.report_distillation import Distillation, Fidelity
from retrieval_distill.reporting.report_seeds import SeveralSeeds
from retrieval_distill.reporting.report_systems import DatasetFacts, Split, Systems
from retrieval_distill.runtime.documents import Document, Part
from retrieval_distill.runtime.stages import Manifest


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


class RunReport(Document, Systems):
    """What a run measured."""

    file = "report.json"
    noun = "report of a run"
    remedy = "run the recipe again, which writes it anew"
    current = 2

    dataset: DatasetFacts
    also: dict[str, Split] = Field({})
    """By split, the same on splits that are measured beside the test split."""
    datasets: dict[str, dict[str, dict[str, Measured]]] = Field({})
    """Of a run on several datasets: dataset -> system -> measure."""
    seeds: SeveralSeeds | None = None
    """``null``: the run trained one student."""
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
