"""Exports vectors to a Parquet file or a LanceDB table, streamed shard by shard.

Both have columns ``id`` and ``vector`` (fixed-size list, float32), which any engine can load. LanceDB was chosen as the
vector database because it takes Arrow batches unchanged, keeps string ids, and its in-process engine is the full one:
the same table on S3, GCS or Azure (``s3://bucket/db/t.lance``) can be read by many machines at once. Qdrant's embedded
mode is a different implementation from its server and has no string ids; Milvus takes rows. Knows Arrow; must not know
models or indexes.
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
    """Write vectors to ``NAME.parquet`` or to a LanceDB table, ``DATABASE/NAME.lance``, replacing an earlier export.

    Args:
        folder: A folder written by ``embed``.
        out: A file, or a table in a folder or object store.

    Returns:
        The number of vectors written.

    Raises:
        UserError: There are no embeddings, a shard is missing or was altered, ``out`` has another suffix or is a table
            with other columns, LanceDB is not installed, or the disk is full.
    """
    write = WRITERS.get(out.rpartition(".")[2])
    if write is None:
        raise UserError(f"--out {out}: end it with .parquet, or with .lance for a LanceDB table")
    source = Embeddings.open(folder)
    with disk.explain_full_disk(out, "the vectors could not be written"):
        write(source, out)
    return source.manifest["counts"]["documents"]


def schema(source: Embeddings) -> pa.Schema:
    """The schema to write; its metadata name the model that must embed queries."""
    made = source.manifest["inputs"]
    vector = pa.list_(pa.float32(), source.storage.dimensions)
    return pa.schema([("id", pa.string()), ("vector", vector)], {"model": made["model"], "kind": made["kind"]})


def batches(source: Embeddings) -> Iterator[pa.RecordBatch]:
    """Ids and vectors, one shard at a time."""
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
    os.environ.setdefault("LANCEDB_LOG", "error")  # it warns about every new table
    try:
        import lancedb
    except ImportError:
        raise UserError(f"--out {out} needs: pip install 'retrieval-distill[lance]'") from None
    database, _, table = out.removesuffix(".lance").rpartition("/")
    connection = lancedb.connect(database or ".")
    if table in connection.table_names() and connection.open_table(table).schema.names != schema(source).names:
        raise UserError(f"--out {out}: a table of that name exists but is no earlier export; choose another name")
    reader = pa.RecordBatchReader.from_batches(schema(source), batches(source))
    connection.create_table(table, reader, mode="overwrite")


WRITERS: dict[str, Callable[[Embeddings, str], None]] = {"parquet": _to_parquet, "lance": _to_lance}
