"""What the verbs take where a noun is wanted: the noun itself, or plain Python values that stand for it.

Knows nouns and plain values; must not know what is done with them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from retrieval_distill.data.dataset import AnyTexts, Dataset, Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError

Queries: TypeAlias = "AnyTexts"
"""Queries: ``Texts``, ``{id: text}``, or a list of texts; see :meth:`Texts.of`."""

Documents: TypeAlias = "AnyTexts | Dataset"
"""Documents: as queries, or a ``Dataset``, whose documents are meant."""

Model = str | os.PathLike[str]
"""A bi-encoder: a folder, a hub id, a packaged name, or a ``Student``."""

Runs = Mapping[str, Run | Mapping[str, Mapping[str, float]]]
"""Runs by name; a run may be ``{query_id: {doc_id: score}}``."""


def queries_of(value: Queries) -> Texts:
    """Queries as ``Texts``.

    Raises:
        UserError: They are something else.
    """
    return Texts.of(value)


def documents_of(value: Documents) -> Texts:
    """Documents as ``Texts``.

    Raises:
        UserError: They are something else.
    """
    return value.documents if isinstance(value, Dataset) else Texts.of(value)


def run_of(value: Run | Mapping[str, Mapping[str, float]]) -> Run:
    """A Run."""
    return value if isinstance(value, Run) else Run.from_dict(value)


def dataset_of(value: Dataset | Mapping[str, Any]) -> Dataset:
    """A Dataset, also from ``{"documents": {id: text}, "queries": {id: text}, "qrels": {split: {...}}}``.

    Raises:
        UserError: It is something else, or a key is missing or unknown.
    """
    if isinstance(value, Dataset):
        return value
    if not isinstance(value, Mapping) or not {"documents", "queries"} <= set(value) <= {
        "documents",
        "queries",
        "qrels",
    }:
        raise UserError('a dataset is a Dataset, or {"documents": {id: text}, "queries": {id: text}, "qrels": {...}}')
    qrels: dict[str, Qrels] = {split: dict(judged) for split, judged in value.get("qrels", {}).items()}
    return Dataset("dataset", documents_of(value["documents"]), queries_of(value["queries"]), qrels)
