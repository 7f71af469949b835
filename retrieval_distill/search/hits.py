"""Search results: documents with id, title, score and snippet.

Knows a Run and texts; must not know how documents were found or are displayed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.snippets import snippet_parts

WORD = re.compile(r"\w+")

COMMON = frozenset(
    "a an and are as at be by can do does for from how i if in into is it its of on or that the this to was what when "
    "where which who why will with you".split()
)
"""English words that stand in nearly every text; marked in a snippet they would hide the others."""


@dataclass(frozen=True)
class Hit:
    """One document found; ``passage`` is the id of its best passage (its own id if it has no passages).

    ``parts`` are the three parts of its snippet, as :func:`retrieval_distill.snippets.snippet_parts` gives it.
    """

    rank: int
    id: str
    passage: str
    score: float
    title: str
    parts: tuple[str, str, str]

    @property
    def snippet(self) -> str:
        """The part of the passage that shares most words with the query."""
        return "".join(self.parts)


def hits(found: Run, dataset: Dataset, query: str) -> list[Hit]:
    """The hits of one query, best first.

    Raises:
        UserError: A document is not in the dataset.
    """
    return hits_of(found.frame["doc_id"].tolist(), found.frame["score"].tolist(), dataset, query)


def hits_of(passages: Sequence[str], scores: Sequence[float], dataset: Dataset, query: str) -> list[Hit]:
    """The hits of documents, or their best passages, and their scores, best first.

    Raises:
        UserError: A document is not in the dataset.
    """
    rows = zip(texts_of(dataset, passages), dataset.parents_of(passages), scores, strict=True)
    return [
        Hit(rank, id_, passage, score, title, snippet_parts(text, query))
        for rank, ((passage, title, text), id_, score) in enumerate(rows, 1)
    ]


def highlights(shown: str, query: str) -> list[tuple[int, int]]:
    """Where words of a query stand in a snippet: (start, end) in characters, in order.

    Words that stand nearly everywhere are left out, unless the query has no others.
    """
    asked = {word.lower() for word in WORD.findall(query)}
    words = asked - COMMON or asked
    return [match.span() for match in WORD.finditer(shown) if match[0].lower() in words]


def texts_of(dataset: Dataset, ids: Sequence[str]) -> list[Record]:
    """(id, title, text) of documents or passages.

    Raises:
        UserError: One is not in the dataset.
    """
    rows = dataset.documents.rows.find(ids)
    if (rows < 0).any():
        lacking = ids[int(np.argmin(rows))]
        raise UserError(f"the index holds document {lacking!r}, but dataset {dataset.name!r} does not; use its own")
    return list(dataset.documents.at(rows).records())
