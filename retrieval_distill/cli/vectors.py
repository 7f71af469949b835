"""Commands around vectors: ``embed``, ``export``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.cli.options import (
    DatasetArgument,
    DtypeOption,
    EngineOption,
    LengthOption,
    ModelOption,
    OutFolder,
    load,
    say,
)
from retrieval_distill.cli.reading import reads

app = typer.Typer()


@app.command()
@partial(reads, without=("queries", "qrels"))
def embed(
    model: ModelOption,
    dataset: DatasetArgument,
    out: OutFolder,
    cache: Path,
    options: Any,
    dtype: DtypeOption = "auto",
    max_length: LengthOption = None,
    storage: Annotated[
        str, typer.Option("--storage", help="float32, float16, int8 (a quarter) or binary (a 32nd of the bytes).")
    ] = "float32",
    backend: Annotated[
        str, typer.Option("--backend", help="torch, onnx, openvino, or auto: measured here, the fastest is taken.")
    ] = "torch",
    engine: EngineOption = "local",
) -> None:
    """Embed a corpus to disk, shard by shard, resumably; once the corpus has changed, only what is new in it.

    Example: retrieval-distill embed --model runs/demo/student --dataset python-docs --out vectors

    Example: retrieval-distill embed --model packaged:all-MiniLM-L6-v2 --dataset corpus/ --storage int8 --out vectors
    """
    from retrieval_distill import api, models

    models.resolve(model)
    documents = load(dataset, cache, options).documents
    manifest = api.embed(
        documents, model, out=out, dtype=dtype, max_length=max_length, storage=storage, engine=engine, backend=backend
    ).manifest
    counts = manifest["counts"]
    done = "embedded before" if manifest["skipped"] else "{new:,} new, {gone:,} gone, {kept:,} kept".format(**counts)
    say(f"{out}: {counts['documents']:,} documents, {counts['dimensions']} dimensions as {storage}; {done}")


@app.command()
def export(
    vectors: Annotated[Path, typer.Argument(help="Folder written by `embed`.")],
    out: Annotated[str, typer.Option("--out", help="FILE.parquet, or DATABASE/TABLE.lance (s3:// too).")],
) -> None:
    """Write vectors for other systems: a Parquet file, or a table of the vector database LanceDB.

    Example: retrieval-distill export vectors --out vectors.parquet

    Example: retrieval-distill export vectors --out s3://bucket/database/passages.lance
    """
    from retrieval_distill import api

    say(f"{out}: {api.export(vectors, out=out):,} vectors")
