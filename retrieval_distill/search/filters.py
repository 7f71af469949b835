"""Filters: which documents may be found, by a condition on the columns of the table they came from.

Knows tables and ids; must not know what a condition may hold, indexes or models.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats.names import KNOWN
from retrieval_distill.errors import UserError
from retrieval_distill.search.conditions import ID, TABLE, Condition, connected, reason

ID_NAMES = KNOWN["documents"]["id"]
"""Names of a column of ids where nobody says otherwise."""


@dataclass(frozen=True)
class Reader:
    """DuckDB's reader of a kind of file: its call, and its option for the types of columns (``None``: it has none).

    Types are found in the whole file, so that none is another in its last row.
    """

    call: str
    types: str | None


READERS = {
    ".jsonl": Reader("read_json({}, format = 'newline_delimited', sample_size = -1", "columns"),
    ".csv": Reader("read_csv({}, header = true, delim = ',', quote = '\"', sample_size = -1", "types"),
    ".tsv": Reader("read_csv({}, header = true, delim = '\t', quote = '', escape = '', sample_size = -1", "types"),
    ".parquet": Reader("read_parquet({}", None),
}


def table_of(source: str, cache: Path) -> Path:
    """The table of documents of a dataset's source: a file itself, or the corpus within a folder.

    Args:
        source: As ``--dataset`` names it.
        cache: Where datasets that were built, downloaded or prepared are kept.

    Raises:
        UserError: There is none that can be asked.
    """
    path = Path(source)
    if path.is_file() and path.suffix.lower() in READERS:
        return path
    for folder in (path, cache / source.removeprefix("beir:"), cache / "prepared" / "dataset"):
        for ending in READERS:
            if (folder / f"corpus{ending}").is_file():
                return folder / f"corpus{ending}"
    endings = ", ".join(READERS)
    raise UserError(f"--where: {source!r} has no table of documents; name one with --metadata FILE ({endings})")


def allowed(where: str, table: Path, dataset: Dataset, id_names: Sequence[str] = ID_NAMES) -> np.ndarray:
    """Which documents a condition holds for, bool [documents of the dataset]; a passage counts as its document does.

    Args:
        where: One condition over the table's columns, see :mod:`retrieval_distill.search.conditions`.
        table: Has a column with the documents' ids, which are read as text whatever they look like.
        dataset: Whose documents.
        id_names: Names of that column; the first that the table has is taken.

    Raises:
        UserError: The table cannot be read, the condition is none over its columns, or it holds for no document.
    """
    ids = pa.array(_ids(Condition.parse(where), table, id_names), pa.large_string())
    own = dataset.documents.table["id"]
    found = pc.is_in(own, value_set=ids)
    if dataset.parents is not None:
        found = pc.or_(found, pc.is_in(dataset.parents, value_set=ids))
    mask = found.to_numpy()
    if not mask.any():
        raise UserError(f"--where {where!r}: no document of {dataset.name!r} is left")
    return mask


def _ids(condition: Condition, table: Path, id_names: Sequence[str]) -> list[str]:
    reader = READERS.get(table.suffix.lower())
    if reader is None or not table.is_file():
        raise UserError(f"{table}: no table; one ends in {', '.join(READERS)}")
    with connected() as connection:
        try:
            _load(connection, reader, condition, table, id_names)
        except duckdb.Error as error:
            raise UserError(f"{table}: {reason(error)}") from None
        return condition.run(connection)


def _load(
    connection: duckdb.DuckDBPyConnection, reader: Reader, condition: Condition, table: Path, id_names: Sequence[str]
) -> None:
    """The table in memory: its ids as text, and the columns that the condition names."""
    call = reader.call.format(_quoted(glob.escape(str(table)), "'"))
    types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM {call})").fetchall()}
    lower = {name.lower(): name for name in types}
    id_ = next((lower[name.lower()] for name in id_names if name.lower() in lower), None)
    if id_ is None:
        raise UserError(f"{table}: no column {' or '.join(id_names)}; it has {', '.join(types)}")
    types |= {name: "VARCHAR" for name, kind in types.items() if kind == "UUID" or name == id_}
    wanted = {name: types[name] for name in [*condition.columns(list(types), table.name), id_]}
    if reader.types is not None:
        typed = ", ".join(f"{_quoted(name, chr(39))}: {_quoted(kind, chr(39))}" for name, kind in wanted.items())
        call += f", {reader.types} = {{{typed}}}"
    columns = ", ".join(_quoted(name, '"') for name in wanted if name != id_)
    text = f"CAST({_quoted(id_, chr(34))} AS VARCHAR)"
    connection.execute(
        f"CREATE TABLE {TABLE} AS SELECT {text} AS {_quoted(ID, chr(34))}, {text} AS {_quoted(id_, chr(34))}"
        f"{', ' * bool(columns)}{columns} FROM {call})"
    )


def _quoted(text: str, mark: str) -> str:
    return f"{mark}{text.replace(mark, mark * 2)}{mark}"
