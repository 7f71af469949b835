"""Tables of Hugging Face datasets: a folder that ``save_to_disk`` wrote, or ``hf:NAME`` on the hub.

``hf:NAME#CONFIG/SPLIT`` names one table on the hub; either part may be omitted if there is only one. Knows how the
library ``datasets`` loads; must not know what columns mean, or which tables belong together.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from retrieval_distill import hub
from retrieval_distill.data.formats.parquet import ROWS_PER_BATCH, arrow_rows
from retrieval_distill.data.formats.reading import Reading, Row, Table
from retrieval_distill.errors import UserError, first_line

PREFIX = "hf:"


def recognises(source: str) -> bool:
    """Whether a source is an address on the hub or a folder written by the library."""
    marks = ("dataset_info.json", "dataset_dict.json")
    return source.startswith(PREFIX) or any((Path(source) / mark).is_file() for mark in marks)


def table(source: str) -> Table:
    """The only table of a source.

    Raises:
        UserError: The source cannot be loaded, or has several tables.
    """
    found = load(source)
    if len(found) > 1:
        raise UserError(f"{source} has several tables: {', '.join(found)}; name one, as in hf:NAME#CONFIG/SPLIT")
    return next(iter(found.values()))


def load(source: str) -> dict[str, Table]:
    """The tables of a source by name."""
    import datasets

    try:
        if source.startswith(PREFIX):
            name, _, part = source.removeprefix(PREFIX).partition("#")
            config, _, split = part.partition("/")
            with hub.offline_if_unreachable():
                loaded = datasets.load_dataset(name, config or None, split=split or None)
        else:
            loaded = datasets.load_from_disk(source)
    except Exception as error:
        raise UserError(f"{source} could not be loaded ({type(error).__name__}: {first_line(error)})") from None
    parts = loaded if isinstance(loaded, dict) else {"": loaded}
    return {name: _table(f"{source}#{name}".rstrip("#"), part) for name, part in parts.items()}


def _table(name: str, part: Any) -> Table:
    def batches() -> Iterator[pa.Table]:
        arrow = part.with_format("arrow")
        for start in range(0, len(part), ROWS_PER_BATCH):
            yield arrow[start : start + ROWS_PER_BATCH]

    def rows(reading: Reading) -> Iterator[Row]:
        return arrow_rows(name, batches(), reading)

    return Table(name, part.data.nbytes, {"source": name, "fingerprint": part._fingerprint}, rows)
