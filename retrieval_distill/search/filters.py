"""Filters: which documents may be found, by a condition on the columns of the table they came from.

The condition is SQL, ``year >= 2020 AND source = 'NIH'``, which DuckDB asks of the file itself. Knows tables and ids;
must not know indexes or models.
"""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats.names import KNOWN
from retrieval_distill.errors import UserError

READERS = {
    ".jsonl": "read_json_auto('{}', format='newline_delimited')",
    ".csv": "read_csv_auto('{}')",
    ".tsv": "read_csv_auto('{}', delim='\t')",
    ".parquet": "read_parquet('{}')",
}


def table_of(source: str, cache: Path) -> Path:
    """The table of documents of a dataset's source: a file itself, or the corpus within a folder.

    Args:
        source: As ``--dataset`` names it.
        cache: Where datasets that were built or downloaded are kept.

    Raises:
        UserError: There is none that can be asked.
    """
    path = Path(source)
    if path.is_file() and path.suffix in READERS:
        return path
    for folder in (path, cache / source.removeprefix("beir:")):
        for ending in READERS:
            if (folder / f"corpus{ending}").is_file():
                return folder / f"corpus{ending}"
    endings = ", ".join(READERS)
    raise UserError(f"--where: {source!r} has no table of documents; name one with --metadata FILE ({endings})")


def allowed(where: str, table: Path, dataset: Dataset) -> np.ndarray:
    """Which documents a condition holds for, bool [documents of the dataset]; a passage counts as its document does.

    Args:
        where: SQL over the table's columns.
        table: Has a column ``_id`` or ``id`` with the documents' ids.
        dataset: Whose documents.

    Raises:
        UserError: The table cannot be read, the condition is no SQL over its columns, or it holds for no document.
    """
    ids = pa.array(_ids(where, table), pa.large_string())
    own = dataset.documents.table["id"]
    found = pc.is_in(own, value_set=ids)
    if dataset.parents is not None:
        found = pc.or_(found, pc.is_in(dataset.parents, value_set=ids))
    mask = found.to_numpy()
    if not mask.any():
        raise UserError(f"--where {where!r}: no document of {dataset.name!r} is left")
    return mask


def _ids(where: str, table: Path) -> list[str]:
    if table.suffix not in READERS or not table.is_file():
        raise UserError(f"{table}: no table; one ends in {', '.join(READERS)}")
    relation = READERS[table.suffix].format(str(table).replace("'", "''"))
    with duckdb.connect() as connection:
        try:
            columns = [row[0] for row in connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
            name = next(known for known in KNOWN["documents"]["id"] if known in columns)
            asked = f'SELECT CAST("{name}" AS VARCHAR) FROM {relation} WHERE ({where})'
            return [row[0] for row in connection.execute(asked).fetchall()]
        except StopIteration:
            raise UserError(f"{table}: no column _id or id; it has {', '.join(columns)}") from None
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"--where {where!r} on {table.name}: {reason}") from None
