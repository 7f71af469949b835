"""Commands for the stages one by one: ``retrieve``, ``compress``, ``distill``, ``index``, ``evaluate``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval_distill.cli.options import (
    CACHE,
    CacheOption,
    DatasetArgument,
    DepthOption,
    OutFile,
    OutFolder,
    SetOption,
    SplitOption,
    check_ids,
    load,
    load_runs,
    save,
    say,
)
from retrieval_distill.errors import UserError

app = typer.Typer()


@app.command()
def retrieve(
    dataset: DatasetArgument,
    out: OutFile,
    split: SplitOption = "test",
    depth: DepthOption = 100,
    model: Annotated[
        str | None, typer.Option("--model", help="Bi-encoder to fuse with BM25; BM25 alone if not given.")
    ] = None,
    index: Annotated[Path | None, typer.Option("--index", help="That bi-encoder's index, written by `index`.")] = None,
    stemmer: Annotated[str | None, typer.Option("--stemmer", help="PyStemmer language, e.g. english.")] = None,
    cache: CacheOption = CACHE,
) -> None:
    """First-stage retrieval: BM25, or BM25 fused with a bi-encoder.

    Example: retrieval-distill retrieve --dataset python-docs --out bm25.trec
    """
    from retrieval_distill import api

    if (model is None) != (index is None):
        raise UserError("--model and --index belong together: give both, or neither for BM25 alone")
    data = load(dataset, cache)
    check_ids(out, data.queries_of(split), data.documents)
    found = api.retrieve(data.documents, data.queries_of(split), depth, index, model, stemmer=stemmer)
    save(found, out)


@app.command()
def compress(
    dataset: DatasetArgument,
    out: OutFolder,
    model: Annotated[
        str, typer.Option("--model", help="Encoder that the student is made of, and learns from if no teacher is set.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Option, e.g. layers=spaced:3 or transfers.relations=1. May be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all that is drawn.")] = 7,
    cache: CacheOption = CACHE,
) -> None:
    """Make a small encoder of a larger one on a dataset's plain documents; no queries are needed.

    Example: retrieval-distill compress --dataset python-docs --model packaged:all-MiniLM-L6-v2
    --set layers=spaced:3 --set tokens=500000 --out small
    """
    from retrieval_distill import api

    counts = api.compress(load(dataset, cache).documents, out, overrides or (), seed, model=model)["counts"]
    say(
        f"{out}: {counts['layers']} layers of width {counts['width']}, {counts['parameters']:,} parameters, "
        f"after {counts['tokens']:,} tokens"
    )


@app.command()
def distill(
    scored: Annotated[Path, typer.Argument(help="Run of teacher scores, written by `score`.")],
    dataset: DatasetArgument,
    out: OutFolder,
    split: SplitOption = "train",
    recipe: Annotated[
        str, typer.Option("--recipe", help="Its student, objectives and training sections are used.")
    ] = "own-corpus",
    overrides: SetOption = None,
    dev: Annotated[
        Path | None, typer.Option("--dev", help="Run of dev queries, for training.evaluate_steps; see `retrieve`.")
    ] = None,
    dev_split: Annotated[str, typer.Option("--dev-split", help="Split that judges them.")] = "dev",
    cache: CacheOption = CACHE,
) -> None:
    """Train a student on a run of teacher scores; on several GPUs, start it with `torchrun -m retrieval_distill`.

    Example: retrieval-distill distill scored.parquet --dataset python-docs --recipe demo --out student
    """
    from retrieval_distill import api
    from retrieval_distill.config import load_recipe
    from retrieval_distill.data.run import Run

    data = load(dataset, cache)
    asked = (Run.load(dev), dev_split) if dev else None
    manifest = api.distill(
        Run.load(scored, missing_scores=True), data, split, load_recipe(recipe, overrides or ()), out, asked
    )
    say(f"{out}: student of {manifest['counts']['parameters']:,} parameters after {manifest['counts']['steps']} steps")


@app.command()
def index(
    embeddings: Annotated[Path, typer.Argument(help="Folder written by `embed`.")],
    out: OutFolder,
    kind: Annotated[
        str,
        typer.Option("--kind", help="flat (exact), hnsw, ivf, ivf-pq, sq8, binary; auto: the cheapest that will do."),
    ] = "flat",
    similarity: Annotated[str, typer.Option("--similarity", help="cosine or dot.")] = "cosine",
    dimensions: Annotated[int | None, typer.Option("--dimensions", help="Keep the first N of every vector.")] = None,
    rescore: Annotated[
        int | None, typer.Option("--rescore", min=0, help="Look up N times as many, order them by stored vectors.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--intent", help="For auto: recall=0.95, memory=200MB, latency_ms=2, minutes=15. Repeatable."),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="For auto: embeds held-out queries.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="For auto: whose queries are asked.")] = None,
    split: Annotated[str, typer.Option("--split", help="For auto: which of its queries.")] = "train",
    cache: CacheOption = CACHE,
) -> None:
    """Build a FAISS index over embedded documents; add to it what was embedded since.

    Example: retrieval-distill index vectors --out index

    Example: retrieval-distill index vectors --out index --kind binary --rescore 16

    Example: retrieval-distill index vectors --out index --kind auto --intent recall=0.99 --intent memory=100MB \
        --model runs/demo/student --dataset python-docs
    """
    from retrieval_distill import api
    from retrieval_distill.config import IntentConfig, parse
    from retrieval_distill.reporting import tradeoff
    from retrieval_distill.runtime.stages import read_json

    if (model is None) != (dataset is None):
        raise UserError("--model and --dataset belong together: held-out queries of the one, embedded by the other")
    asked = (model, load(dataset, cache).queries_of(split)) if model and dataset else None
    intent = parse(IntentConfig, {}, "--intent", overrides or ())
    manifest = api.index(embeddings, out, kind, similarity, dimensions, rescore, intent, asked)
    counts = manifest["counts"]
    if kind == "auto":
        say(tradeoff.table(read_json(out / "tuning.json")))
        say(f"{out / 'tuning.html'}: the same with plots")
    added = f", {counts['added']:,} of them added" if 0 < counts["added"] < counts["documents"] else ""
    say(f"{out}: {counts['kind']}, {counts['documents']:,} documents{added}, {counts['bytes']:,} bytes")


@app.command()
def evaluate(
    run_files: Annotated[list[Path], typer.Argument(help="One or more runs (TREC or .parquet).")],
    dataset: DatasetArgument,
    split: SplitOption = "test",
    measure: Annotated[list[str] | None, typer.Option("--measure", help="e.g. nDCG@10. May be repeated.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers here too.")] = None,
    cache: CacheOption = CACHE,
) -> None:
    """Measure runs against judgements: means, intervals and paired tests between the runs.

    Example: retrieval-distill evaluate bm25.trec reranked.trec --dataset python-docs --measure nDCG@10
    """
    from retrieval_distill import api
    from retrieval_distill.evaluation.measures import DEFAULT_MEASURES
    from retrieval_distill.reporting import report
    from retrieval_distill.runtime.stages import write_json

    names = tuple(measure or DEFAULT_MEASURES)
    runs = load_runs(run_files)
    systems = api.evaluate(runs, load(dataset, cache), split, names)
    if json_file:
        write_json(json_file, systems)
    say(report.comparison(systems, names))
