"""The interface of every way to generate queries: documents in, queries out.

Knows texts and numbers; must not know models, files or judgements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from retrieval_distill.data.columns import Record
from retrieval_distill.data.hashes import text_hash


@dataclass(frozen=True)
class Query:
    """A query generated from a document.

    ``seen`` is the (title, text) of the document as training on this query sees it; ``None``: unchanged.
    """

    text: str
    seen: tuple[str, str] | None = None

    def with_whole_document(self) -> Query:
        """The same query with the document unchanged."""
        return replace(self, seen=None)


QueriesByRow = dict[int, list[Query]]
"""Row of a document -> its queries, best first; possibly an empty list."""


class QueryGenerator(Protocol):
    """Generates queries from documents; one of the recipe's ``ways``."""

    def make(self, documents: Sequence[Record], counts: Sequence[int], done: Sequence[bool]) -> Iterator[QueriesByRow]:
        """The queries of the documents that are not done, some documents at a time.

        The queries of a document must not depend on which others are done, nor on when they are generated.

        Args:
            documents: All documents of a block, so that batches are the same after a crash.
            counts: At most this many queries of each document, 0 or more.
            done: Which documents already have their queries.

        Raises:
            UserError: A document's queries cannot be generated; the caller keeps those yielded before.
        """


def seeded_rng(seed: int, *names: str) -> np.random.Generator:
    """A random generator for a seed and names, the same in every process."""
    return np.random.default_rng([seed, *map(text_hash, names)])
