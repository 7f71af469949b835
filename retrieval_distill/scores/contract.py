"""What every kind of teacher is: pairs of texts in, raw relevance scores out.

Knows numbers and texts; must not know models, stores, Runs or judgements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

Scored = Iterator[tuple[np.ndarray, np.ndarray]]
"""(positions, float32 scores) of some of the wanted pairs at a time; every wanted position comes exactly once."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Query-document pairs over texts that are each held once.

    Pair ``i`` is ``queries[rows[i, 0]]`` with ``documents[rows[i, 1]]``; ``wanted[i]`` says whether its score is
    asked for. The pairs that are not wanted are there so that a teacher can lay out its batches the same way whether
    or not a killed attempt had scored some.
    """

    query_ids: Sequence[str]
    queries: Sequence[str]
    document_ids: Sequence[str]
    documents: Sequence[str]
    rows: np.ndarray
    """int64 [pairs, 2]"""
    wanted: np.ndarray
    """bool [pairs]"""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def positions(self) -> np.ndarray:
        """Positions of the wanted pairs, ascending (int64)."""
        return np.flatnonzero(self.wanted)

    def texts(self, position: int) -> tuple[str, str]:
        """Query and document of one pair."""
        query, document = self.rows[position]
        return self.queries[query], self.documents[document]

    def ids(self, position: int) -> tuple[str, str]:
        """Query id and document id of one pair."""
        query, document = self.rows[position]
        return self.query_ids[query], self.document_ids[document]

    def only(self, positions: np.ndarray) -> Pairs:
        """The same texts, with only these pairs wanted."""
        wanted = np.zeros(len(self), bool)
        wanted[positions] = True
        return replace(self, wanted=wanted)


class Teacher(Protocol):
    """What gives raw relevance scores for pairs of texts."""

    @property
    def fingerprint(self) -> str:
        """Hash of all that changes a score; letters, digits, ``_``, ``-`` and ``.`` only."""

    @property
    def description(self) -> dict[str, Any]:
        """For people: ``kind``, ``model``, and what else tells this teacher from its siblings (JSON values)."""

    def score(self, pairs: Pairs) -> Scored:
        """Raw scores of the wanted pairs. A pair's score must not depend on which others are wanted.

        Raises:
            UserError: The teacher cannot score a pair; what was yielded before is kept by the caller.
        """


@runtime_checkable
class KnowsIds(Protocol):
    """A teacher that knows pairs by their ids, so that equal texts may have different scores."""

    def lookup(self, pairs: Pairs) -> np.ndarray:
        """Its own score of every pair, wanted or not, float32 [pairs]; NaN where it has none."""
