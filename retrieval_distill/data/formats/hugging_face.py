"""Hugging Face datasets: a folder that ``save_to_disk`` wrote, or ``hf:NAME`` on the hub.

``hf:NAME#CONFIG/SPLIT`` names one table on the hub; either part may be omitted if there is only one. A source with
several tables is a dataset if they are called ``corpus``, ``queries`` and, for judgements, like their split. Knows the
library ``datasets``; must not know what columns mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from retrieval_distill import hub
from retrieval_distill.data import metadata
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import sidecars
from retrieval_distill.data.formats.parquet import ROWS_PER_BATCH, arrow_rows
from retrieval_distill.data.formats.reading import Format, Reading, Row, Table
from retrieval_distill.errors import UserError, first_line

PREFIX = "hf:"

JUDGED = pa.schema([("query_id", pa.string()), ("doc_id", pa.string()), ("score", pa.int64())])
"""Schema of a split's judgements when written."""


def recognises(source: str) -> bool:
    """Whether a source is an address on the hub or a folder written by the library."""
    marks = ("dataset_info.json", "dataset_dict.json")
    return source.startswith(PREFIX) or any((Path(source) / mark).is_file() for mark in marks)


def table(source: str) -> Table:
    """The only table of a source.

    Raises:
        UserError: The source cannot be loaded, or has several tables.
    """
    found = _load(source)
    if len(found) > 1:
        raise UserError(f"{source} has several tables: {', '.join(found)}; name one, as in hf:NAME#CONFIG/SPLIT")
    return next(iter(found.values()))


def read(source: str, reading: Reading) -> Dataset:
    """A dataset of the tables ``corpus``, ``queries`` and one per split; only documents from a single table."""
    from retrieval_distill.data.formats import tables

    found, name = _load(source), Path(source.removeprefix(PREFIX).partition("#")[0]).name
    if len(found) == 1:
        return tables.dataset(name, next(iter(found.values())), None, {}, reading)
    if "corpus" not in found:
        raise UserError(f"{source} has the tables {', '.join(found)}, but none called corpus; name one of them")
    dataset = tables.dataset(name, found.pop("corpus"), found.pop("queries", None), found, reading)
    return dataset if source.startswith(PREFIX) else sidecars.read(Path(source), dataset)


def write(found: Dataset, folder: Path) -> None:
    """Write a folder for ``datasets.load_from_disk``, with the tables that :func:`read` knows.

    Raises:
        UserError: A split is called ``corpus`` or ``queries``.
    """
    import datasets

    from retrieval_distill.data.formats.tables import judgement_rows

    if taken := {"corpus", "queries"} & set(found.qrels):
        raise UserError(f"{folder}: a split called {taken.pop()!r} collides with the table of that name; rename it")
    parts = {"corpus": metadata.table(found), "queries": found.queries.table.drop_columns("title")}
    for split, judged in found.qrels.items():
        rows = [dict(zip(JUDGED.names, row, strict=True)) for row in judgement_rows(judged)]
        parts[split] = pa.Table.from_pylist(rows, JUDGED)
    shards = {name: 1 for name, part in parts.items() if not len(part)}  # the default, 0, cannot be loaded again
    written = datasets.DatasetDict({name: datasets.Dataset(part) for name, part in parts.items()})
    written.save_to_disk(str(folder), num_shards=shards)
    sidecars.write(found, folder)


def _load(source: str) -> dict[str, Table]:
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


HUGGING_FACE = Format("hugging-face", recognises, read, lambda dataset, out, _: write(dataset, out))
