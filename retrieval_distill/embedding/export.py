"""Vectors leave: as a Parquet file, or as a table of LanceDB, streamed shard by shard.

Either holds columns ``id`` and ``vector`` (a list of fixed size, float32), so that any engine can take it. LanceDB is
the vector database that vectors are loaded into, because it takes Arrow batches as they are, keeps string ids, and the
engine that runs within a process is the whole engine: the same table on S3, GCS or Azure (``s3://bucket/db/t.lance``)
is read by any number of machines at once. Qdrant's embedded mode is another implementation than its server and knows no
string ids; Milvus takes rows. Knows Arrow; must not know models or indexes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval_distill.embedding.embeddings import Embeddings
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import disk, files


def export(folder: str | Path, out: str) -> int:
    """Write vectors to ``NAME.parquet`` or to a LanceDB table, ``DATABASE/NAME.lance``, in place of older ones there.

    Args:
        folder: Written by ``embed``.
        out: A file, or a table in a folder or object store.

    Returns:
        How many vectors were written.

    Raises:
        UserError: No embeddings are there, a shard is missing or was altered, ``out`` has another ending or is a table
            of other columns, LanceDB is not installed, or the disk is full.
    """
    write = WRITERS.get(out.rpartition(".")[2])
    if write is None:
        raise UserError(f"--out {out}: end it with .parquet, or with .lance for a LanceDB table")
    source = Embeddings.open(folder)
    with disk.room(out, "the vectors could not be written"):
        write(source, out)
    return source.manifest["counts"]["documents"]


def schema(source: Embeddings) -> pa.Schema:
    """Of what is written; its metadata say which model may ask."""
    made = source.manifest["inputs"]
    vector = pa.list_(pa.float32(), source.storage.dimensions)
    return pa.schema([("id", pa.string()), ("vector", vector)], {"model": made["model"], "kind": made["kind"]})


def batches(source: Embeddings) -> Iterator[pa.RecordBatch]:
    """Ids and vectors, a shard at a time."""
    start, written = 0, schema(source)
    for vectors in source.shards():
        ids = source.id_column.slice(start, len(vectors)).combine_chunks()
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        yield pa.RecordBatch.from_arrays([ids, values], schema=written)
        start += len(vectors)


def _to_parquet(source: Embeddings, out: str) -> None:
    with (
        files.atomic(out) as temporary,
        pq.ParquetWriter(temporary, schema(source), use_dictionary=False) as writer,
    ):
        for batch in batches(source):
            writer.write_batch(batch)


def _to_lance(source: Embeddings, out: str) -> None:
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns of every table that is new
    try:
        import lancedb
    except ImportError:
        raise UserError(f"--out {out} needs: pip install 'retrieval-distill[lance]'") from None
    database, _, table = out.removesuffix(".lance").rpartition("/")
    opened = lancedb.connect(database or ".")
    if table in opened.table_names() and opened.open_table(table).schema.names != schema(source).names:
        raise UserError(f"--out {out}: a table of that name is there, and it was not exported; choose another name")
    reader = pa.RecordBatchReader.from_batches(schema(source), batches(source))
    opened.create_table(table, reader, mode="overwrite")


WRITERS: dict[str, Callable[[Embeddings, str], None]] = {"parquet": _to_parquet, "lance": _to_lance}
