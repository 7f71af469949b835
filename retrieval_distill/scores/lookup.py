"""Looks up pairs of text hashes in Parquet shards, out of core, with DuckDB.

A shard has columns ``query`` and ``document`` (uint64 hashes) and ``score`` (float32). If several shards hold the same
pair, its smallest score counts. Knows hashes and SQL; must not know folders or teachers.
"""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

PAIRS_PER_PASS = 16_000_000
"""Pairs looked up in one pass over the shards: bounds memory, but each further pass costs another scan."""

PAIRS_PER_BATCH = 1 << 20
"""Pairs handed to the database at a time."""

MEMORY_LIMIT = "2GB"
"""Memory the database may use before it spills to the temporary folder (set by ``TMPDIR``)."""

DISTINCT = "SELECT query, document, min(score) AS score FROM stored GROUP BY ALL"
"""SQL for the distinct stored pairs."""


@contextmanager
def database(shards: Sequence[Path] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
    """A temporary database with the shards as the view ``stored``; spills to disk, never uses the network."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="retrieval-distill-") as spill:
        settings = {"memory_limit": MEMORY_LIMIT, "temp_directory": spill, "preserve_insertion_order": "false"}
        with duckdb.connect(config={**settings, "autoinstall_known_extensions": "false"}) as connection:
            # The right side of a join is held in memory: always the wanted pairs, so that the store is only streamed.
            connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
            if shards:
                connection.read_parquet([glob.escape(str(path)) for path in shards]).create_view("stored")
            yield connection


def pair_scores(shards: Sequence[Path], queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The stored score of each pair, float32 [pairs] aligned with the input; NaN where there is none."""
    found = np.full(len(queries), np.nan, np.float32)
    if not shards:
        return found
    join = "SELECT row, score FROM (FROM stored {share}) JOIN (FROM asked {share}) USING (query, document)"
    with database(shards) as connection:
        for part in _passes(connection, join, queries, documents):
            np.fmin.at(found, part["row"], part["score"])
    return found


def first_rows(queries: np.ndarray, documents: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The first row of each distinct wanted pair, ascending (int64)."""
    first = np.zeros(len(queries), bool)
    group = "SELECT min(row) AS row FROM asked {share} GROUP BY query, document"
    with database() as connection:
        for part in _passes(connection, group, queries, documents, wanted):
            first[part["row"]] = True
    return np.flatnonzero(first)


def count(shards: Sequence[Path]) -> int:
    """Number of distinct pairs in the shards."""
    if not shards:
        return 0
    with database(shards) as connection:
        row = connection.execute("SELECT count(*) FROM (SELECT DISTINCT query, document FROM stored)").fetchone()
    return int(row[0]) if row else 0


def write(shards: Sequence[Path], path: Path) -> None:
    """Write the distinct pairs as one Parquet file, in order of the hashes."""
    with database(shards) as connection:
        connection.sql(f"{DISTINCT} ORDER BY query, document").write_parquet(str(path), compression="zstd")


def scores_among(
    shards: Sequence[Path], queries: np.ndarray, documents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every stored pair of one of these queries with one of these documents.

    Args:
        shards: The shards.
        queries: Text hashes; a repeated hash yields its pairs for each row.
        documents: Text hashes, likewise.

    Returns:
        Rows of ``queries``, rows of ``documents`` and scores, aligned and sorted by row.
    """
    join = (
        "SELECT q.row AS query, d.row AS document, min(score) AS score FROM stored "
        "JOIN queries q ON stored.query = q.hash JOIN documents d ON stored.document = d.hash "
        "GROUP BY ALL ORDER BY ALL"
    )
    with database(shards) as connection:
        for name, hashes in (("queries", queries), ("documents", documents)):
            connection.register(name, pa.table({"hash": hashes, "row": np.arange(len(hashes))}))
        found = connection.execute(join).fetchnumpy()
    return found["query"], found["document"], found["score"]


def _passes(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    queries: np.ndarray,
    documents: np.ndarray,
    wanted: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """The result of ``query`` over the table ``asked`` (row, query, document) in parts, each for a share of the pairs.

    Args:
        connection: The database.
        query: SQL whose result for a pair depends only on that pair; ``{share}`` follows every table in it.
        queries: Text hashes [pairs].
        documents: Text hashes [pairs].
        wanted: Which pairs to look up, bool [pairs]; ``None``: all.
    """
    total = len(queries) if wanted is None else int(wanted.sum())
    passes = -(-total // PAIRS_PER_PASS)
    for number in range(passes):
        connection.register("asked", _reader(queries, documents, wanted))
        share = f"WHERE xor(query, document) % {passes} = {number}"
        yield connection.execute(query.format(share=share)).fetchnumpy()


def _reader(queries: np.ndarray, documents: np.ndarray, wanted: np.ndarray | None) -> pa.RecordBatchReader:
    """The pairs with their row numbers as an Arrow stream, without a second copy in memory."""
    schema = pa.schema({"row": pa.int64(), "query": pa.uint64(), "document": pa.uint64()})

    def batches() -> Iterator[pa.RecordBatch]:
        for start in range(0, len(queries), PAIRS_PER_BATCH):
            part = slice(start, start + PAIRS_PER_BATCH)
            rows = np.arange(start, min(part.stop, len(queries)))
            if wanted is None:
                yield pa.record_batch([rows, queries[part], documents[part]], schema=schema)
            else:
                rows = rows[wanted[part]]
                yield pa.record_batch([rows, queries[rows], documents[rows]], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())
