"""Selects the documents that may be found, by a condition on the columns of their table.

Knows tables and ids; must not know what a condition may contain, indexes or models.
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
from retrieval_distill.search.conditions import ID, TABLE, Condition, connect, first_error_line

ID_NAMES = KNOWN["documents"]["id"]
"""Default names of the column of ids."""


@dataclass(frozen=True)
class Reader:
    """DuckDB's reader for a kind of file: its call, and its option for column types (``None``: it has none).

    Types are inferred from the whole file, since the last row may change one.
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
    """The table of documents of a dataset's source: the file itself, or the corpus in a folder.

    Args:
        source: The value of ``--dataset``.
        cache: Folder of datasets that were built, downloaded or prepared.

    Raises:
        UserError: There is no table of a supported format.
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


def allowed_documents(where: str, table: Path, dataset: Dataset, id_names: Sequence[str] = ID_NAMES) -> np.ndarray:
    """The documents that match a condition, bool [documents of the dataset]; passages match with their document.

    Args:
        where: A condition over the table's columns, see :mod:`retrieval_distill.search.conditions`.
        table: A table with a column of document ids, which are always read as text.
        dataset: The documents.
        id_names: Possible names of that column; the first one in the table is used.

    Raises:
        UserError: The table cannot be read, the condition is invalid for it, or no document matches.
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
        raise UserError(f"{table}: not a table; supported are {', '.join(READERS)}")
    with connect() as connection:
        try:
            _load(connection, reader, condition, table, id_names)
        except duckdb.Error as error:
            raise UserError(f"{table}: {first_error_line(error)}") from None
        return condition.run(connection)


def _load(
    connection: duckdb.DuckDBPyConnection, reader: Reader, condition: Condition, table: Path, id_names: Sequence[str]
) -> None:
    """Load the table into memory: its ids as text, and the columns that the condition names."""
    call = reader.call.format(_quote(glob.escape(str(table)), "'"))
    types = {name: kind for name, kind, *_ in connection.execute(f"DESCRIBE FROM {call})").fetchall()}
    lower = {name.lower(): name for name in types}
    id_ = next((lower[name.lower()] for name in id_names if name.lower() in lower), None)
    if id_ is None:
        raise UserError(f"{table}: no column {' or '.join(id_names)}; it has {', '.join(types)}")
    types |= {name: "VARCHAR" for name, kind in types.items() if kind == "UUID" or name == id_}
    wanted = {name: types[name] for name in [*condition.columns(list(types), table.name), id_]}
    if reader.types is not None:
        typed = ", ".join(f"{_quote(name, chr(39))}: {_quote(kind, chr(39))}" for name, kind in wanted.items())
        call += f", {reader.types} = {{{typed}}}"
    columns = ", ".join(_quote(name, '"') for name in wanted if name != id_)
    text = f"CAST({_quote(id_, chr(34))} AS VARCHAR)"
    connection.execute(
        f"CREATE TABLE {TABLE} AS SELECT {text} AS {_quote(ID, chr(34))}, {text} AS {_quote(id_, chr(34))}"
        f"{', ' * bool(columns)}{columns} FROM {call})"
    )


def _quote(text: str, mark: str) -> str:
    return f"{mark}{text.replace(mark, mark * 2)}{mark}"
