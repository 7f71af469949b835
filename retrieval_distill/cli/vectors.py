"""Commands around vectors: ``embed``, ``index``, ``export``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from retrieval_distill import api
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.cli.declarations import KEYS
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted


@command("Search and serve")
def embed(model: str, source: shell.Source, out: Path, reading: shell.Reading, *, storage: str, **options: Any) -> None:
    """Embed a corpus to disk, shard by shard, resumably; once the corpus has changed, only what is new in it.

    Example: retrieval-distill embed --model runs/demo/student --dataset python-docs --out vectors

    Example: retrieval-distill embed --model packaged:all-MiniLM-L6-v2 --dataset corpus/ --storage int8 --out vectors
    """
    shell.check_models(model)
    manifest = api.embed(source.load(reading).documents, model, out=out, storage=storage, **options).manifest
    counts = manifest["counts"]
    done = "embedded before" if manifest["skipped"] else "{new:,} new, {gone:,} gone, {kept:,} kept".format(**counts)
    held = f"{counted(counts['documents'], 'document')}, {counts['dimensions']} dimensions"
    shell.say(f"{out}: {held} as {storage}; {done}")


@command("Search and serve")
def index(
    embeddings: Annotated[Path, ARGUMENT],
    out: Path | None,
    intent: Annotated[shell.Repeated, Spelled("--intent", "KEY=VALUE", name=KEYS)] = None,
    dataset: str | None = None,
    split: str = "train",
    *,
    cache: shell.Cache,
    model: str | None,
    **options: Any,
) -> None:
    """Build a FAISS index over embedded documents; add to it what was embedded since.

    Example: retrieval-distill index vectors --out index

    Example: retrieval-distill index vectors --out index --kind binary --rescore 16

    Example: retrieval-distill index vectors --out index --intent recall=0.99 --intent memory=100MB \
        --model runs/demo/student --dataset python-docs

    Options:
        dataset: For auto: whose queries are asked.
        split: For auto: which of its queries.
    """
    from retrieval_distill.config import IntentConfig, parse
    from retrieval_distill.reporting import tradeoff

    if (model is None) != (dataset is None):
        raise UserError("--model and --dataset belong together: held-out queries of the one, embedded by the other")
    config = parse(IntentConfig, {}, "--intent", intent) if intent else None
    if not embeddings.is_dir():
        raise UserError(f"{embeddings}: no embeddings there; make them with: retrieval-distill embed")
    shell.check_models(model)
    queries = shell.Source(dataset=dataset, cache=cache).load().queries(split) if dataset else None
    built = api.index(embeddings, out=out, model=model, queries=queries, config=config, **options)
    counts = built.manifest["counts"]
    if report := tradeoff.write(built.folder):
        shell.say(tradeoff.table(report))
        shell.say(f"{built.folder / 'tuning.html'}: the same with plots")
    added = f", {counts['added']:,} of them added" if 0 < counts["added"] < counts["documents"] else ""
    held = f"{counted(counts['documents'], 'document')}{added}, {counts['bytes']:,} bytes"
    shell.say(f"{built.folder}: {counts['kind']}, {held}")


@command("Search and serve", act="export_model", without=("model",))
def export(
    source: Annotated[str, ARGUMENT],
    out: str,
    to: str | None = None,
    dataset: str | None = None,
    *,
    cache: shell.Cache,
    **options: Any,
) -> None:
    """Write vectors for other systems, or with --to a model that runs without PyTorch.

    Example: retrieval-distill export vectors --out vectors.parquet

    Example: retrieval-distill export vectors --out s3://bucket/database/passages.lance

    Example: retrieval-distill export runs/demo/student --to onnx --out student-onnx

    Example: retrieval-distill export runs/demo/student --to openvino --dtype int8 --dataset python-docs --out small

    Options:
        source: Folder of vectors that `embed` wrote; with ``--to``, a student or a cross-encoder.
        out: ``FILE.parquet``, or ``DATABASE/TABLE.lance``, in an object store (``s3://``) too; with ``--to``, a folder.
        to: What runs the model: onnx or openvino. If not given, vectors are exported.
        dataset: With ``--to``: what to check the model on; if not given, paragraphs about Python.
    """
    if to is None:
        shell.say(f"{out}: {counted(api.export(source, out=out), 'vector')}")
        return
    shell.check_models(source.removeprefix("bi-encoder:"))
    data = shell.Source(dataset=dataset, cache=cache).load() if dataset else None
    api.export_model(source, out=out, to=to, dataset=data, **options)
    from retrieval_distill.exporting import check
    from retrieval_distill.runtime.stages import read_manifest

    made = (read_manifest(out) or {})["counts"]
    shell.say(f"{out}: {made['kind']}, {to} in {made['dtype']}, {made['bytes']:,} bytes; {check.sentence(made)}")
