"""Commands for the stages one by one: ``retrieve``, ``compress``, ``distill``, ``index``, ``evaluate``.

Knows options; must not know any maths. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrieval_distill.cli.options import (
    CacheOption,
    DatasetArgument,
    DepthOption,
    OutFile,
    OutFolder,
    SetOption,
    SplitOption,
    check_ids,
    check_index,
    load,
    load_runs,
    measures,
    save,
    say,
)
from retrieval_distill.errors import UserError
from retrieval_distill.runtime.files import CACHE

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
    k1: Annotated[float, typer.Option("--k1", min=0, help="BM25's term-frequency saturation.")] = 1.5,
    b: Annotated[float, typer.Option("--b", min=0, max=1, help="BM25's length normalisation.")] = 0.75,
    stemmer: Annotated[str | None, typer.Option("--stemmer", help="PyStemmer language, e.g. english.")] = None,
    language: Annotated[
        str, typer.Option("--language", help="Whose stop words BM25 leaves out, e.g. german; none: every word counts.")
    ] = "english",
    cache: CacheOption = CACHE,
) -> None:
    """First-stage retrieval: BM25, or BM25 fused with a bi-encoder.

    Example: retrieval-distill retrieve --dataset python-docs --out bm25.trec

    Example: retrieval-distill retrieve --dataset my-folder --language german --stemmer german --out bm25.trec
    """
    from retrieval_distill import api, models
    from retrieval_distill.config import RetrieveConfig, parse

    if (model is None) != (index is None):
        raise UserError("--model and --index belong together: give both, or neither for BM25 alone")
    parse(RetrieveConfig, {"language": language}, "retrieve")
    if index is not None and model is not None:
        check_index(index)
        models.resolve(model)
    data = load(dataset, cache)
    check_ids(out, data.queries(split), data.documents)
    found = api.retrieve(
        data.queries(split), data, depth=depth, index=index, model=model, k1=k1, b=b, stemmer=stemmer, language=language
    )
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
    from retrieval_distill import api, models
    from retrieval_distill.config import CompressConfig, parse

    config = parse(CompressConfig, {"model": model}, "compress", overrides or ())
    for name in filter(None, (config.model, config.teacher)):
        models.resolve(name)
    counts = api.compress(load(dataset, cache), out=out, seed=seed, config=config).manifest["counts"]
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

    chosen, run = load_recipe(recipe, overrides or ()), Run.load(scored, missing_scores=True)
    asked = (Run.load(dev), dev_split) if dev else None
    data = load(dataset, cache)
    counts = api.distill(run, data, out=out, recipe=chosen, split=split, dev=asked).manifest["counts"]
    say(f"{out}: student of {counts['parameters']:,} parameters after {counts['steps']} steps")


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
    from retrieval_distill import api, models
    from retrieval_distill.config import IntentConfig, parse
    from retrieval_distill.runtime.stages import read_json

    if (model is None) != (dataset is None):
        raise UserError("--model and --dataset belong together: held-out queries of the one, embedded by the other")
    intent = parse(IntentConfig, {}, "--intent", overrides or ())
    if not embeddings.is_dir():
        raise UserError(f"{embeddings}: no embeddings there; make them with: retrieval-distill embed")
    if model is not None:
        models.resolve(model)
    queries = load(dataset, cache).queries(split) if dataset else None
    built = api.index(
        embeddings, out=out, kind=kind, similarity=similarity, dimensions=dimensions, rescore=rescore, model=model,
        queries=queries, config=intent,
    )  # fmt: skip
    counts = built.manifest["counts"]
    if kind == "auto":
        from retrieval_distill.reporting import tradeoff

        tradeoff.write(out)
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
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a row per run here.")] = None,
    latex_file: Annotated[Path | None, typer.Option("--latex", help="Write a LaTeX table here.")] = None,
    cache: CacheOption = CACHE,
) -> None:
    """Measure runs against judgements: means, intervals and paired tests between the runs.

    Example: retrieval-distill evaluate bm25.trec reranked.trec --dataset python-docs --measure nDCG@10
    """
    from retrieval_distill import api
    from retrieval_distill.runtime.stages import write_json

    runs, names, data = load_runs(run_files), measures(measure), load(dataset, cache)
    report = api.evaluate(runs, data.qrels(split), measures=names, dataset=data)
    if json_file:
        write_json(json_file, report.systems)
    if csv_file:
        report.to_csv(csv_file)
    if latex_file:
        latex_file.write_text(report.to_latex(), encoding="utf-8")
    say(str(report))
