"""First-stage retrieval."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from retrieval_distill.config.section import Section

Language = Literal[
    "english", "german", "dutch", "french", "spanish", "portuguese", "italian", "russian", "swedish", "norwegian",
    "danish", "turkish", "chinese", "korean", "none",
]  # fmt: skip
"""Languages whose stop words bm25s has, and none of them."""


class BM25Config(Section):
    """How BM25 reads and weighs words."""

    k1: float = Field(1.5, ge=0)
    """BM25's term-frequency saturation."""
    b: float = Field(0.75, ge=0, le=1)
    """BM25's length normalisation."""
    stemmer: str | None = None
    """PyStemmer language for BM25 (extra ``stem``); ``None`` matches words as written."""
    language: Language = "english"
    """Whose stop words BM25 leaves out; ``none``: every word counts."""

    @property
    def bm25(self) -> dict[str, Any]:
        """BM25's options: all that changes what it finds in the same texts."""
        return self.model_dump(include=set(BM25Config.model_fields))


class RetrieveConfig(BM25Config):
    """First-stage retrieval: candidates of training queries, baselines and the pool the teacher reranks."""

    depth: int = Field(30, ge=1)
    """Documents that each retriever puts forward per training query; more where ``mining.draw`` names deeper ranks."""
    keep: int = Field(12, ge=1)
    """Candidates per training query, chosen as ``mining`` says; these and the relevant documents are scored."""
    relevant: int | None = Field(8, ge=1)
    """Relevant documents per training query that are scored and trained on, the highest grades first; the others are
    never taken for negatives. ``None``: all, which some collections have dozens of."""
