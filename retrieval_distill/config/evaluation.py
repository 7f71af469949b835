"""What is measured."""

from __future__ import annotations

from pydantic import Field

from retrieval_distill.config.section import Section


class EvaluateConfig(Section):
    """What is measured."""

    measures: tuple[str, ...] = ("nDCG@10", "RR@10", "R@100")
    """Measures as ir_measures names them; the first one is the headline."""
    depth: int = Field(100, ge=1)
    """Documents retrieved per test query."""
    rerank_depth: int = Field(30, ge=1)
    """Documents per test query, of BM25 and the start model fused, that the teacher baseline reranks."""
    baselines: tuple[str, ...] = ()
    """Bi-encoders (hub ids, folders) measured beside the student, each with its own token limit and similarity."""
