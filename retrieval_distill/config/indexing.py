"""How the corpus is embedded and indexed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retrieval_distill.config.section import Section


class EmbedConfig(Section):
    """How the corpus is embedded."""

    dtype: str = "auto"
    """What the student computes in."""
    storage: Literal["float32", "float16", "int8", "binary"] = "float32"
    """What vectors are stored as."""


class IndexConfig(Section):
    """The search index."""

    kind: Literal["flat", "hnsw", "sq8"] = "flat"
    """``flat`` is exact, ``hnsw`` a graph, ``sq8`` holds 8-bit vectors."""
    dimensions: int | None = Field(None, ge=1)
    """Dimensions kept of every vector, the first ones, for a student trained with such a view; ``None``: all."""
