"""What a format is: how it is told from others, and how it is read and written.

Knows the shape of a format; must not know any one of them.
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
"""Where a row stands (``file:number``, counted from 1) and its values: column -> value, if the file is well-formed."""


Types = Mapping[str, pa.DataType]
"""The columns of a table that is written: name -> type. Where a format has no such type, it holds what it can."""


class RowError(Exception):
    """A row that cannot be used.

    Args:
        reason: What kind of defect; cases of one reason are counted together.
        detail: What is wrong with this row and what would mend it.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True, eq=False)
class Reading:
    """One reading of one source: the user's options, where large texts are kept, and what was wrong.

    ``cache`` is a folder for memory-mapped copies of large tables; ``None`` holds all texts in memory.
    """

    options: ReadConfig = field(default_factory=ReadConfig)
    cache: Path | None = None
    bad: BadInput = field(default_factory=BadInput)

    @classmethod
    def of(cls, options: ReadConfig, cache: Path | None = None) -> Reading:
        """A reading that treats bad rows as the options say."""
        return cls(options, cache, BadInput(on_bad=options.on_bad))

    def apart(self) -> Reading:
        """The same reading with a count of bad rows of its own."""
        return Reading.of(self.options, self.cache)


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of named columns, wherever they come from; ``rows`` starts anew at each call.

    ``key`` tells one state of the source from another; ``size`` is in bytes; ``typed`` is false where every value is a
    string, because the format knows nothing else.
    """

    name: str
    size: int
    key: dict[str, Any]
    rows: Callable[[Reading], Iterator[Row]]
    typed: bool = True


@dataclass(frozen=True)
class TableFormat:
    """A kind of file that holds a table; ``write`` is ``None`` for one that is only read, ``typed`` as in ``Table``.

    ``read`` sends a malformed row to ``reading.bad``. ``write`` takes the columns and rows of their values.
    """

    endings: tuple[str, ...]
    read: Callable[[Path, Reading], Iterator[Row]]
    write: Callable[[Path, Types, Iterable[Sequence[Any]]], None] | None = None
    typed: bool = True


@dataclass(frozen=True, eq=False)
class Export:
    """What a training table is written from beside the dataset: a Run of teacher scores and how much of it."""

    run: Run | None = None
    split: str = "train"
    negatives: int = 7


@dataclass(frozen=True)
class Format:
    """A dataset's format: ``recognises`` tells from a source's name or files; ``None``: not read, or not written."""

    name: str
    recognises: Callable[[str], bool]
    read: Callable[[str, Reading], Dataset] | None = None
    write: Callable[[Dataset, Path, Export], None] | None = None
