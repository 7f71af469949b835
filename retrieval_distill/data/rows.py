"""An index of a string column: string -> row, in 16 bytes per row however long the strings are.

A dictionary of nine million ids takes more than a gigabyte; this takes two arrays, sorted by the strings' hashes. Every
match is compared with the string itself, so hash collisions are harmless. Knows columns of strings; must not know
whether they are ids or texts.
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
    """String -> row of a column; for a repeated string, its first row.

    Args:
        strings: The column; it is referenced, not copied.
        rising: The strings' hashes in ascending order, uint64 [n].
        order: The row of each hash, int64 [n]; ascending for equal hashes.
    """

    def __init__(self, strings: pa.ChunkedArray, rising: np.ndarray, order: np.ndarray) -> None:
        self._strings, self._hashes, self._order = strings, rising, order
        self._chunks = pa.table({"string": strings}).to_batches()

    @classmethod
    def of(cls, strings: pa.ChunkedArray) -> RowIndex:
        """Build the index of a column, with a pass over it and a sort."""
        found = np.concatenate([np.zeros(0, np.uint64), *map(hashes.text_hashes, columns.parts(strings))])
        order = np.argsort(found, kind="stable")
        return cls(strings, found[order], order)

    @classmethod
    def open(cls, strings: pa.ChunkedArray, folder: Path) -> RowIndex:
        """Open the index that :meth:`save` wrote for the same column, memory-mapped."""
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
            KeyError: A string is not in the column.
        """
        rows = self.find(strings)
        if (rows < 0).any():
            raise KeyError(strings[int(np.argmin(rows))])
        return rows

    def find(self, strings: Sequence[str]) -> np.ndarray:
        """The row of each string, int64 [n]; -1 if it is not in the column."""
        rows = np.full(len(strings), -1, np.int64)
        wanted = hashes.text_hashes(strings)
        at = np.searchsorted(self._hashes, wanted)
        open_ = np.arange(len(strings))
        while True:  # once, except for strings with equal hashes
            open_ = open_[at[open_] < len(self._hashes)]
            open_ = open_[self._hashes[at[open_]] == wanted[open_]]
            if not len(open_):
                return rows
            candidates = self._order[at[open_]]
            stored = self._at(candidates)
            same = np.array([found == strings[number] for found, number in zip(stored, open_, strict=True)])
            rows[open_[same]] = candidates[same]
            open_ = open_[~same]
            at[open_] += 1

    def repeats(self) -> list[tuple[int, int]]:
        """(row, first row of the same string) of every repetition, by row."""
        equal = np.flatnonzero(self._hashes[1:] == self._hashes[:-1])
        rows = np.unique(np.concatenate([self._order[equal], self._order[equal + 1]])) if len(equal) else equal
        places: dict[str, list[int]] = defaultdict(list)
        for row, string in zip(rows.tolist(), self._at(rows), strict=True):
            places[string].append(row)
        return sorted((row, first) for first, *again in places.values() for row in again)

    def _at(self, rows: np.ndarray) -> list[str]:
        return columns.gather(self._chunks, rows)["string"].to_pylist() if len(rows) else []
