"""The interface of every teacher: pairs of texts in, raw relevance scores out.

Knows numbers and texts; must not know models, stores, Runs or judgements.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

ScoreStream = Iterator[tuple[np.ndarray, np.ndarray]]
"""Batches of (positions, float32 scores); every wanted position occurs exactly once."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Query-document pairs, with every text stored once.

    Pair ``i`` is ``queries[rows[i, 0]]`` with ``documents[rows[i, 1]]``; ``wanted[i]`` tells whether its score is
    needed. The other pairs are included so that a teacher forms the same batches whether or not a killed attempt had
    already scored some.
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
        """The same pairs, of which only these are wanted."""
        wanted = np.zeros(len(self), bool)
        wanted[positions] = True
        return replace(self, wanted=wanted)


class Teacher(Protocol):
    """Gives raw relevance scores to pairs of texts."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that changes a score; letters, digits, ``_``, ``-`` and ``.`` only."""

    @property
    def description(self) -> dict[str, Any]:
        """For people: ``kind``, ``model``, and what else distinguishes this teacher (JSON values)."""

    def score(self, pairs: Pairs) -> ScoreStream:
        """Raw scores of the wanted pairs. A pair's score must not depend on which others are wanted.

        Raises:
            UserError: The teacher cannot score a pair; the caller keeps the scores yielded before.
        """


@runtime_checkable
class ScoresByIds(Protocol):
    """A teacher that identifies pairs by their ids, so that equal texts may have different scores."""

    def lookup(self, pairs: Pairs) -> np.ndarray:
        """The score of every pair, wanted or not, float32 [pairs]; NaN where there is none."""


@runtime_checkable
class Silent(Protocol):
    """A teacher that has nothing to say on some pairs, as BM25 where no word is shared."""

    @property
    def silent(self) -> float:
        """What it scores those pairs."""
