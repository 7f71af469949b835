"""Where a string stands in a column: string -> row, in 16 bytes per row however long the strings are.

A dictionary of nine million ids takes more than a gigabyte; this takes two arrays, sorted by the strings' hashes. Every
answer is checked against the strings themselves, so two of one hash are told apart. Knows columns of strings; must
not know whether they are ids or texts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from retrieval_distill.data import columns, hashes

FILES = ("hashes.npy", "rows.npy")


class RowIndex(Mapping[str, int]):
    """String -> row of a column; a string that stands twice leads to its first row.

    Args:
        strings: The column; it is kept, not copied.
        rising: The strings' hashes in rising order, uint64 [n].
        order: The row of each of ``rising``, int64 [n]; rows of equal hashes rise.
    """

    def __init__(self, strings: pa.ChunkedArray, rising: np.ndarray, order: np.ndarray) -> None:
        self._strings, self._hashes, self._order = strings, rising, order
        self._chunks = pa.table({"string": strings}).to_batches()

    @classmethod
    def of(cls, strings: pa.ChunkedArray) -> RowIndex:
        """The index of a column: a pass over it, and a sort."""
        found = np.concatenate([np.zeros(0, np.uint64), *map(hashes.text_hashes, columns.parts(strings))])
        order = np.argsort(found, kind="stable")
        return cls(strings, found[order], order)

    @classmethod
    def open(cls, strings: pa.ChunkedArray, folder: Path) -> RowIndex:
        """The index of the same column that :meth:`save` wrote, memory-mapped."""
        return cls(strings, *(np.load(folder / name, mmap_mode="r") for name in FILES))

    def save(self, folder: Path) -> None:
        """Write the two arrays."""
        for name, array in zip(FILES, (self._hashes, self._order), strict=True):
            np.save(folder / name, array, allow_pickle=False)

    def __len__(self) -> int:
        return len(self._strings)

    def __iter__(self) -> Iterator[str]:
        for part in columns.parts(self._strings):
            yield from part

    def __getitem__(self, string: str) -> int:
        return int(self.rows_of([string])[0])

    def rows_of(self, strings: Sequence[str]) -> np.ndarray:
        """The row of each string, int64 [n].

        Raises:
            KeyError: A string is not there.
        """
        rows = self.find(strings)
        if (rows < 0).any():
            raise KeyError(strings[int(np.argmin(rows))])
        return rows

    def find(self, strings: Sequence[str]) -> np.ndarray:
        """The row of each string, int64 [n]; -1 for one that is not there."""
        rows = np.full(len(strings), -1, np.int64)
        wanted = hashes.text_hashes(strings)
        at = np.searchsorted(self._hashes, wanted)
        asked = np.arange(len(strings))
        while True:  # once, but for strings that share a hash
            asked = asked[at[asked] < len(self._hashes)]
            asked = asked[self._hashes[at[asked]] == wanted[asked]]
            if not len(asked):
                return rows
            candidates = self._order[at[asked]]
            stored = self._at(candidates)
            same = np.array([found == strings[number] for found, number in zip(stored, asked, strict=True)])
            rows[asked[same]] = candidates[same]
            asked = asked[~same]
            at[asked] += 1

    def repeats(self) -> list[tuple[int, int]]:
        """(row, first row of the same string) of every string that stands there again, by row."""
        equal = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        rows = np.unique(np.concatenate([self._order[equal], self._order[equal + 1]])) if len(equal) else equal
        places: dict[str, list[int]] = defaultdict(list)
        for row, string in zip(rows.tolist(), self._at(rows), strict=True):
            places[string].append(row)
        return sorted((row, first) for first, *again in places.values() for row in again)

    def _at(self, rows: np.ndarray) -> list[str]:
        return columns.gather(self._chunks, rows)["string"].to_pylist() if len(rows) else []
