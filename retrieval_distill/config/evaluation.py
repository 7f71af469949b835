"""What is measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from retrieval_distill.config.section import Section

QUESTIONS = "questions"
"""Split of questions as people ask them."""


class EvaluateConfig(Section):
    """What is measured."""

    measures: tuple[str, ...] = ("nDCG@10", "RR@10", "R@100")
    """Measures as ir_measures names them; the first one is the headline."""
    depth: int = Field(100, ge=1)
    """Documents retrieved per test query."""
    rerank_depth: int = Field(30, ge=1)
    """Documents per test query, of BM25 and the start model fused, that the teacher baseline reranks."""
    baselines: tuple[str, ...] = ()
    """Bi-encoders (hub ids, folders, ``api:NAME``) measured beside the student, each with its own token limit and
    similarity."""
    rerankers: tuple[str, ...] = ()
    """Rerankers, named as teachers are, measured beside the teacher on the same documents, as ``rerank-NAME``."""
    start_length: Literal["own", "student"] = "own"
    """Tokens that the start model reads, as the student's rival and as a retriever: as many as it does without
    training, or as the student does."""
    also: tuple[str, ...] | None = None
    """Splits measured beside ``dataset.test``, each in tables of its own: by how often one of the first five documents
    answers (Success@5), then by ``measures``. Nothing is trained or tuned on them, and what is said of the student, and
    which system to use, never rests on them. ``None``: ``questions``, where the dataset has such a split."""

    seeds: int = Field(1, ge=1)
    """Students in all that learn from the same training lists, each in a training with a seed of its own: the recipe's
    ``seed``, the next one, and so on. All of them, and each fused with BM25, are measured on the test split; the report
    says how far they lie apart. A larger number continues a finished run: only the new students are trained."""

    def other_splits(self, *others: str | None) -> tuple[str, ...]:
        """The splits to measure beside the test split, or to look for; none that has another part in the recipe.

        Args:
            others: The splits that train, tune and are measured anyway.
        """
        return tuple(split for split in ((QUESTIONS,) if self.also is None else self.also) if split not in others)
