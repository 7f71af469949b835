"""``report.json`` of ``prepare``: the data report, as a type.

Knows the shape of the report; must not know how anything was counted or how it is shown.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from retrieval_distill.runtime.documents import Document, Part


class Histogram(Part):
    """Number of texts by length."""

    lower: list[int] = Field(alias="from")
    """Lower bounds of the bins; the last bin has no upper bound."""
    counts: list[int]


class Lengths(Part):
    """Lengths of texts; only ``texts`` if there are none."""

    texts: int
    """Number of texts."""
    mean: float = 0.0
    p50: int = 0
    p90: int = 0
    p99: int = 0
    max: int = 0
    histogram: Histogram | None = None
    limit: int | None = None
    """Length beyond which a model truncates a text, less ``beside``; missing: none."""
    beside: int = 0
    """Length that a query of median length takes of the limit."""
    truncated: float = 0.0
    """Share of texts beyond the limit."""
    lost: float = 0.0
    """Share of all tokens beyond the limit."""


class TextLengths(Part):
    """Lengths of both kinds of text, in one unit."""

    documents: Lengths
    queries: Lengths


class JudgedDepth(Part):
    """Judgements of a split."""

    queries: int
    pairs: int
    relevant: int
    judged_per_query: float
    relevant_per_query: float
    queries_without_relevant: int
    grades: dict[str, int]
    """Grade -> number of pairs."""


class Contents(Part):
    """Contents of a dataset."""

    documents: int
    queries: int
    splits: dict[str, JudgedDepth]
    lengths: dict[str, TextLengths]
    """By unit: ``words``, and tokens of the ``student`` and the ``teacher`` if these are named."""


class Case(Part):
    """One reason for which texts or judgements were left out, merged or reported."""

    count: int
    first: list[str]
    """Ids of the first few."""


class DataReport(Document):
    """A dataset before and after ``prepare``."""

    file = "report.json"
    noun = "data report"
    remedy = "prepare the data again"

    dataset: str
    before: Contents
    after: Contents
    left_out_as_bad_input: dict[str, Case]
    """Reason -> what the reader left out."""
    dropped: dict[str, Case]
    """Reason -> what was removed."""
    duplicates: dict[str, Case]
    """Kind of copy -> what was merged or kept."""
    leakage: dict[str, Case]
    """Kind of leak from held-out into training data -> what was found or removed."""
    config: dict[str, Any]
    """The options."""

    @property
    def cases(self) -> dict[str, dict[str, Case]]:
        """What was left out, merged or reported, by step."""
        return {
            "left out as bad input": self.left_out_as_bad_input,
            "dropped": self.dropped,
            "duplicates": self.duplicates,
            "leakage": self.leakage,
        }
