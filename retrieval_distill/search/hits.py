"""What a search gives back: documents with their names, scores and the sentence that fits best.

Knows a Run and texts; must not know how anything was found or is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import snippet_parts


@dataclass(frozen=True)
class Hit:
    """One document found: ``passage`` is the id of its best passage (its own, where documents are whole).

    ``parts`` are its snippet in three, as :func:`retrieval_distill.formatting.snippet_parts` gives it.
    """

    rank: int
    id: str
    passage: str
    score: float
    title: str
    parts: tuple[str, str, str]

    @property
    def snippet(self) -> str:
        """The part of the passage that shares most words with the question."""
        return "".join(self.parts)


def hits(found: Run, dataset: Dataset, query: str) -> list[Hit]:
    """What was found for one query, a passage of each document, best first.

    Raises:
        UserError: The dataset lacks one of them.
    """
    passages = found.frame["doc_id"].tolist()
    rows = zip(texts_of(dataset, passages), dataset.parents_of(passages), found.frame["score"].tolist(), strict=True)
    return [
        Hit(rank, id_, passage, score, title, snippet_parts(text, query))
        for rank, ((passage, title, text), id_, score) in enumerate(rows, 1)
    ]


def texts_of(dataset: Dataset, ids: Sequence[str]) -> list[Record]:
    """(id, title, text) of documents or passages.

    Raises:
        UserError: The dataset does not have one.
    """
    rows = dataset.documents.rows.find(ids)
    if (rows < 0).any():
        lacking = ids[int(np.argmin(rows))]
        raise UserError(f"the index holds document {lacking!r}, but dataset {dataset.name!r} does not: name its own")
    return list(dataset.documents.at(rows).records())
