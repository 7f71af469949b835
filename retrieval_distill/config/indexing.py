"""How the corpus is embedded and indexed."""

from __future__ import annotations

from typing import Literal

from pydantic import ByteSize, Field

from retrieval_distill.config.section import Section


class EmbedConfig(Section):
    """How the corpus is embedded."""

    dtype: str = "auto"
    """What the student computes in."""
    storage: Literal["float32", "float16", "int8", "binary"] = "float32"
    """What vectors are stored as."""


class IntentConfig(Section):
    """What an index is for; ``kind: auto`` finds the cheapest that does it."""

    recall: float = Field(0.95, gt=0, le=1)
    """Least share of the exact best ``depth`` documents that it finds, on average over queries."""
    depth: int = Field(10, ge=1)
    """Documents per query by which recall and latency are measured."""
    memory: ByteSize | None = None
    """Most memory of the index: bytes, or as ``200MB``; vectors for rescoring stay on disk and do not count."""
    latency_ms: float | None = Field(None, gt=0)
    """Most milliseconds of a query, its vector given, asked alone: the median."""
    minutes: float = Field(15.0, gt=0)
    """How long may be built and tried. What would not be done by then is not begun, and the report says so."""
    queries: int = Field(200, ge=2)
    """Queries asked at most; half of them to choose, the others to measure what was chosen."""


class IndexConfig(Section):
    """The search index."""

    kind: Literal["flat", "hnsw", "ivf", "ivf-pq", "sq8", "binary", "auto"] = "flat"
    """``flat`` is exact, ``hnsw`` a graph, ``ivf`` lists of like vectors, ``ivf-pq`` the same with vectors of about a
    sixteenth of the size, ``sq8`` holds 8-bit vectors, ``binary`` signs; ``auto`` tries all of them on the corpus."""
    dimensions: int | None = Field(None, ge=1)
    """Dimensions kept of every vector, the first ones, for a student trained with such a view; ``None``: all."""
    rescore: int | None = Field(None, ge=0)
    """How many times as many documents as asked for are looked up and ordered anew by their own vectors, stored on
    disk, for a kind that loses something; 0: none; ``None``: the kind's own (8 for ``ivf-pq`` and ``binary``)."""
    intent: IntentConfig = IntentConfig()
    """What ``auto`` aims at."""
