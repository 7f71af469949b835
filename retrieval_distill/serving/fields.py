"""The further columns of documents, such as a year: what they are, and which documents a filter lets through.

A filter is a tree of comparisons; each becomes SQL of a fixed vocabulary, with the column's name quoted and its value
bound, never text from outside. Knows columns, values and DuckDB; must not know HTTP or searching.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_distill.data import metadata
from retrieval_distill.data.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Fields:
    """The fields of a dataset's documents and their types."""

    dataset: Dataset
    types: dict[str, str]

    @classmethod
    def of(cls, dataset: Dataset) -> Fields:
        """Those of a dataset."""
        names = {"int64": "integer", "double": "number", "bool": "boolean"}
        return cls(dataset, {name: names.get(str(kind), "string") for name, kind in metadata.types(dataset).items()})

    def allowed(self, where: dict[str, Any] | None) -> np.ndarray | None:
        """Which documents a filter lets through, bool [documents]; ``None``: all."""
        return None

    def values(self, id_: str) -> dict[str, Any]:
        """The fields of one document."""
        return {}
