"""What every way of making queries is: documents in, queries out, each with what training sees of its document.

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
    """A query made from a document.

    ``seen`` is the document's (title, text) as training on this query sees it; ``None``: as it stands.
    """

    text: str
    seen: tuple[str, str] | None = None

    def with_whole_document(self) -> Query:
        """The same query, of the document as it stands."""
        return replace(self, seen=None)


Made = dict[int, list[Query]]
"""Row of a document -> its queries, the best first; none is a list without any."""


class Way(Protocol):
    """What makes queries from documents."""

    def make(self, documents: Sequence[Record], counts: Sequence[int], done: Sequence[bool]) -> Iterator[Made]:
        """The queries of the documents that are not done, some documents at a time.

        What is yielded at once is kept at once; the queries of a document must depend on neither which others are done
        nor when it was asked.

        Args:
            documents: All documents of a block, so that batches can be laid out the same way after a crash.
            counts: Queries wanted of each at most, 0 or more.
            done: Which have had their queries before.

        Raises:
            UserError: A document cannot be asked; what was yielded before is kept by the caller.
        """


def dice(seed: int, *names: str) -> np.random.Generator:
    """Random numbers of their own for whatever these names name, the same in every process."""
    return np.random.default_rng([seed, *map(text_hash, names)])
