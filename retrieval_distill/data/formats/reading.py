"""The interface of formats: how they are recognised, read and written.

Must not know any particular format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from retrieval_distill.config import ReadConfig
from retrieval_distill.data.bad_input import BadInput
from retrieval_distill.data.dataset import Dataset

if TYPE_CHECKING:
    from retrieval_distill.data.run import Run

Row = tuple[str, Any]
"""A row's place (``file:number``, counted from 1) and its values: column -> value, if the file is well-formed."""


Types = Mapping[str, pa.DataType]
"""The columns of a table to write: name -> type. A format without such a type writes what it can."""


class RowError(Exception):
    """A row that cannot be used.

    Args:
        reason: Kind of defect; cases with the same reason are counted together.
        detail: What is wrong with this row and how to fix it.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, eq=False)
class Reading:
    """The state of reading a source: the user's options, the cache of large texts, and bad rows.

    ``cache`` is a folder for memory-mapped copies of large tables; ``None``: keep all texts in memory.
    """

    options: ReadConfig = field(default_factory=ReadConfig)
    cache: Path | None = None
    bad: BadInput = field(default_factory=BadInput)

    @classmethod
    def of(cls, options: ReadConfig, cache: Path | None = None) -> Reading:
        """A reading with the options' treatment of bad rows."""
        return cls(options, cache, BadInput(on_bad=options.on_bad))

    def apart(self) -> Reading:
        """The same reading with a separate count of bad rows."""
        return Reading.of(self.options, self.cache)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of named columns from any source; ``rows`` starts from the beginning at each call.

    ``key`` identifies the state of the source; ``size`` is in bytes; ``typed`` is false if every value is a string,
    because the format has no other types.
    """

    name: str
    size: int
    key: dict[str, Any]
    rows: Callable[[Reading], Iterator[Row]]
    typed: bool = True


@dataclass(frozen=True)
class TableFormat:
    """A format of table files; ``write`` is ``None`` if it can only be read, ``typed`` as in ``Table``.

    ``read`` sends a malformed row to ``reading.bad``. ``write`` takes the columns and rows of their values.
    """

    endings: tuple[str, ...]
    read: Callable[[Path, Reading], Iterator[Row]]
    write: Callable[[Path, Types, Iterable[Sequence[Any]]], None] | None = None
    typed: bool = True


@dataclass(frozen=True, eq=False)
class Export:
    """What to write a training table from, besides the dataset: a Run of teacher scores, and how many negatives."""

    run: Run | None = None
    split: str = "train"
    negatives: int = 7


@dataclass(frozen=True)
class Format:
    """A format of datasets; ``recognises`` checks a source's name or files; ``None``: cannot be read, or written."""

    name: str
    recognises: Callable[[str], bool]
    read: Callable[[str, Reading], Dataset] | None = None
    write: Callable[[Dataset, Path, Export], None] | None = None
