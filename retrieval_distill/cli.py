"""The command line: one thin command per verb - parse, call, print.

Knows options and how to say errors; must not know any maths. Heavy imports happen inside commands, so that
``--help`` is instant.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Distil any cross-encoder into a small, fast retriever on your own corpus, and measure it.\n\n"
    "Try `retrieval-distill demo`, then `retrieval-distill search runs/demo 'split a path into root and extension'`.",
)

DatasetArgument = Annotated[str, typer.Option("--dataset", help="A folder in BEIR layout, beir:NAME or python-docs.")]
SplitOption = Annotated[str, typer.Option("--split", help="Split of the judgements: train, dev or test.")]
OutFile = Annotated[Path, typer.Option("--out", help="Run file to write: .parquet, else TREC format.")]
OutFolder = Annotated[Path, typer.Option("--out", help="Folder to write.")]
DepthOption = Annotated[int, typer.Option("--depth", min=1, help="Documents per query.")]
TEACHERS = "Cross-encoder (hub id, folder, starter), bi-encoder:NAME, llm:NAME or scores:FILE."
TeacherOption = Annotated[str, typer.Option("--teacher", help=TEACHERS)]
TeacherSetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Teacher option, e.g. label=1 or llm.endpoint=http://localhost:8000/v1. Repeatable."),
]
StoreOption = Annotated[Path, typer.Option("--store", help="Score store: pairs in it are never scored again.")]
ModelOption = Annotated[str, typer.Option("--model", help="Bi-encoder: hub id, folder or packaged:all-MiniLM-L6-v2.")]
DtypeOption = Annotated[str, typer.Option("--dtype", help="float32, bfloat16, float16 or auto.")]
LengthOption = Annotated[
    int | None, typer.Option("--max-length", min=8, help="Token limit; the model's own if not given.")
]
CacheOption = Annotated[Path, typer.Option("--cache", help="Keeps datasets that are built or downloaded.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override, e.g. training.steps=50. May be repeated.")
]

DEFAULT_TEACHER = "cross-encoder/ms-marco-MiniLM-L6-v2"

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "retrieval-distill"


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="Recipe file, or the name of a shipped recipe.")],
    out: OutFolder,
    overrides: SetOption = None,
) -> None:
    """Run a whole recipe: corpus and teacher in, measured student out.

    Finished stages are kept, so the same command continues a killed run.

    Example: retrieval-distill run my.yaml --out runs/mine --set training.steps=200
    """
    from retrieval_distill import pipeline
    from retrieval_distill.config import load_recipe

    pipeline.run(load_recipe(recipe, overrides or ()), out)


@app.command()
def demo(
    out: OutFolder = Path("runs/demo"),
    overrides: SetOption = None,
) -> None:
    """Run the embedded demo: no network, no data, about ten minutes on two cores.

    Example: retrieval-distill demo --out runs/demo
    """
    from retrieval_distill import pipeline

    pipeline.demo(out, overrides or ())


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
    from retrieval_distill import verbs

    if (model is None) != (index is None):
        raise UserError("--model and --index belong together: give both, or neither for BM25 alone")
    data = _load(dataset, cache)
    found = verbs.retrieve(data.documents, data.queries_of(split), depth, index, model, stemmer=stemmer)
    _save(found, out)


@app.command()
def score(
    run_file: Annotated[Path, typer.Argument(help="Run whose pairs are scored (TREC or .parquet).")],
    dataset: DatasetArgument,
    out: OutFile,
    store: StoreOption,
    teacher: TeacherOption = DEFAULT_TEACHER,
    max_length: LengthOption = 512,
    dtype: DtypeOption = "auto",
    options: TeacherSetOption = None,
    cache: CacheOption = CACHE,
) -> None:
    """Score every pair of a run with a teacher (raw scores), resumably.

    Example: retrieval-distill score bm25.trec --dataset python-docs --teacher starter --store s --out scored.parquet
    """
    from retrieval_distill import verbs
    from retrieval_distill.retrieval.run import Run

    data, pairs = _load(dataset, cache), Run.load(run_file)
    asked = verbs.load_teacher(teacher, max_length, dtype, options or ())
    scored, counts = verbs.score(pairs, data.queries, data.documents, asked, store)
    _save(scored, out)
    _say(f"scored {counts['scored']:,} pairs, found {counts['stored']:,} in {store}")


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
    cache: CacheOption = CACHE,
) -> None:
    """Train a student on a run of teacher scores.

    Example: retrieval-distill distill scored.parquet --dataset python-docs --recipe demo --out student
    """
    from retrieval_distill import verbs
    from retrieval_distill.config import load_recipe
    from retrieval_distill.retrieval.run import Run

    data = _load(dataset, cache)
    manifest = verbs.distill(Run.load(scored), data, split, load_recipe(recipe, overrides or ()), out)
    _say(f"{out}: student of {manifest['counts']['parameters']:,} parameters after {manifest['counts']['steps']} steps")


@app.command()
def embed(
    model: ModelOption,
    dataset: DatasetArgument,
    out: OutFolder,
    dtype: DtypeOption = "auto",
    max_length: LengthOption = None,
    cache: CacheOption = CACHE,
) -> None:
    """Embed a corpus to disk, shard by shard, resumably.

    Example: retrieval-distill embed --model runs/demo/student --dataset python-docs --out vectors
    """
    from retrieval_distill import verbs

    manifest = verbs.embed(model, _load(dataset, cache).documents, out, dtype, max_length)
    _say(f"{out}: {manifest['counts']['documents']:,} documents, {manifest['counts']['dimensions']} dimensions")


@app.command()
def index(
    embeddings: Annotated[Path, typer.Argument(help="Folder written by `embed`.")],
    out: OutFolder,
    kind: Annotated[str, typer.Option("--kind", help="flat (exact), hnsw or sq8.")] = "flat",
    similarity: Annotated[str, typer.Option("--similarity", help="cosine or dot.")] = "cosine",
) -> None:
    """Build a FAISS index over embedded documents.

    Example: retrieval-distill index vectors --out index
    """
    from retrieval_distill import verbs

    manifest = verbs.index(embeddings, out, kind, similarity)
    _say(f"{out}: {manifest['counts']['documents']:,} documents, {manifest['counts']['bytes']:,} bytes")


@app.command()
def search(
    run_folder: Annotated[Path, typer.Argument(help="Folder of a finished run, such as runs/demo.")],
    query: Annotated[str, typer.Argument(help="What to look for, in your own words.")],
    depth: DepthOption = 5,
) -> None:
    """Search a run's corpus with its student.

    Example: retrieval-distill search runs/demo "split a path into root and extension"
    """
    from retrieval_distill.reporting import hits

    hits.show(run_folder, query, depth)


@app.command()
def rerank(
    run_files: Annotated[list[Path], typer.Argument(help="First-stage runs (TREC or .parquet).")],
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Option("--out", help="Run file for one combination; a folder for a benchmark.")],
    store: StoreOption,
    teacher: Annotated[list[str], typer.Option("--teacher", help=TEACHERS + " Repeatable.")] = [DEFAULT_TEACHER],  # noqa: B006
    depth: Annotated[list[int], typer.Option("--depth", min=1, help="Documents per query. Repeatable.")] = [100],  # noqa: B006
    split: SplitOption = "test",
    measure: Annotated[list[str] | None, typer.Option("--measure", help="e.g. nDCG@10. Repeatable.")] = None,
    max_length: LengthOption = 512,
    dtype: DtypeOption = "auto",
    options: TeacherSetOption = None,
    cache: CacheOption = CACHE,
) -> None:
    """Reorder the head of a run with a teacher; or measure many rerankers, runs and depths against each other.

    Example: retrieval-distill rerank bm25.trec --dataset python-docs --teacher starter --store s --out reranked.trec

    Example: retrieval-distill rerank bm25.trec dense.trec --dataset python-docs --teacher starter \
        --teacher bi-encoder:packaged:all-MiniLM-L6-v2 --depth 10 --depth 50 --store s --out benchmark
    """
    from retrieval_distill import verbs
    from retrieval_distill.retrieval.run import Run

    data = _load(dataset, cache)
    runs = {path.stem: Run.load(path) for path in run_files}
    teachers = {name: verbs.load_teacher(name, max_length, dtype, options or ()) for name in teacher}
    if len(runs) == len(teachers) == len(depth) == 1 and out.suffix:
        (first,), (asked,) = runs.values(), teachers.values()
        _save(verbs.rerank(first, data.queries, data.documents, asked, store, depth[0])[0], out)
        return
    if out.suffix:
        raise UserError(f"--out {out}: several runs, teachers or depths give a folder; leave the ending off")
    if len(runs) < len(run_files):
        raise UserError("two run files have the same name, which would name two systems alike: rename one")
    _benchmark(runs, teachers, depth, data, split, measure, store, out)


def _benchmark(
    runs: dict[str, Any],
    teachers: dict[str, Any],
    depths: list[int],
    data: Any,
    split: str,
    measure: list[str] | None,
    store: Path,
    out: Path,
) -> None:
    from retrieval_distill.artifacts import write_json
    from retrieval_distill.evaluation.measures import DEFAULT_MEASURES
    from retrieval_distill.evaluation.rerank_benchmark import benchmark
    from retrieval_distill.reporting import rerankers

    found = benchmark(runs, teachers, depths, data, split, measure or DEFAULT_MEASURES, store, out)
    write_json(out / "report.json", found)
    (out / "report.txt").write_text(rerankers.table(found) + "\n", encoding="utf-8")
    _say(rerankers.table(found))
    plotted = rerankers.plot(found, out / "quality-against-cost.png")
    _say(f"{out}: report.json, report.txt, runs/" + (f", {plotted.name}" if plotted else ""))


@app.command()
def scores(
    store: Annotated[Path, typer.Argument(help="Score store, such as runs/demo/scores.")],
    merge: Annotated[
        list[Path] | None, typer.Option("--merge", help="Take over the scores of this store. Repeatable.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write a teacher's scores: a Run (.parquet, .trec) with --dataset.")
    ] = None,
    take: Annotated[
        Path | None, typer.Option("--import", help="Take over scores from a file (TREC, Parquet, MS MARCO JSONL).")
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help="Fingerprint, or its beginning.")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", help="Whose ids a file has: folder or name.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every shard again; set damaged ones aside.")] = False,
    cache: CacheOption = CACHE,
) -> None:
    """Show a score store: teachers, counts, histograms, spread and warnings; merge, export, import, verify.

    Example: retrieval-distill scores runs/demo/scores

    Example: retrieval-distill scores mine --merge from-another-machine

    Example: retrieval-distill scores mine --export shared.parquet --teacher 3f2a --dataset my-folder
    """
    from retrieval_distill.reporting import scores as table
    from retrieval_distill.teacher import exchange
    from retrieval_distill.teacher.store import ScoreStore

    if take is None and not store.is_dir():
        raise UserError(f"{store}: no such score store")
    opened = ScoreStore(store)
    for other in merge or ():
        _say(f"{other}: {opened.merge(ScoreStore(other))} shards taken over")
    if take is not None:
        data = _load(_needed(dataset, "--import", "--dataset, whose ids the file has"), cache)
        mark, counts = exchange.import_scores(opened, take, data.queries, data.documents, {})
        _say(f"{take}: " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items()))
        _say(f"teacher {mark}")
    if export is not None:
        mark = opened.find(teacher)
        if dataset is None:
            opened.export(mark, export)
        else:
            data = _load(dataset, cache)
            exchange.export_run(opened, mark, data.queries, data.documents, export)
        _say(f"{export}: scores of teacher {mark}")
    if verify:
        damaged = [shard for mark in opened.fingerprints() for shard in opened.verify(mark)]
        _say(f"{store}: {len(damaged)} damaged shards" + "".join(f"\n  {shard}" for shard in damaged))
    _say(table.show(opened))


@app.command("fit-teacher")
def fit_teacher(
    dataset: DatasetArgument,
    out: OutFolder,
    model: Annotated[
        str | None, typer.Option("--model", help="Start: hub id, folder or packaged:all-MiniLM-L6-v2.")
    ] = None,
    train: Annotated[str, typer.Option("--train", help="Split to learn from.")] = "train",
    dev: Annotated[str, typer.Option("--dev", help="Split that tells which weights to keep.")] = "dev",
    bi_encoder: Annotated[
        str | None, typer.Option("--bi-encoder", help="Fused with BM25 to find hard candidates.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="e.g. loss=lambda, adapter=none, steps=500. Repeatable.")
    ] = None,
    cache: CacheOption = CACHE,
) -> None:
    """Fine-tune a cross-encoder on a dataset's judgements: a teacher for a domain that has none.

    Example: retrieval-distill fit-teacher --dataset my-folder --model cross-encoder/ms-marco-MiniLM-L6-v2 --out teacher
    """
    from retrieval_distill import verbs

    chosen = {} if model is None else {"model": model}
    data = _load(dataset, cache)
    manifest = verbs.fit_teacher(data, out, overrides or (), bi_encoder, train, dev, **chosen)
    counts = manifest["counts"]
    _say(f"{out}: teacher after {counts['steps']} steps" + (_gained(counts["dev"]) if counts["dev"] else ""))


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
    from retrieval_distill import verbs
    from retrieval_distill.artifacts import write_json
    from retrieval_distill.evaluation.measures import DEFAULT_MEASURES
    from retrieval_distill.reporting import report
    from retrieval_distill.retrieval.run import Run

    names = tuple(measure or DEFAULT_MEASURES)
    systems = verbs.evaluate({path.stem: Run.load(path) for path in run_files}, _load(dataset, cache), split, names)
    if json_file:
        write_json(json_file, systems)
    _say(report.comparison(systems, names))


def main() -> None:
    """Run the command line; a user's mistake ends with one clear message and exit code 2."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    for noisy in ("httpx", "httpcore", "sentence_transformers", "faiss", "faiss.loader", "bm25s", "datasets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # torch keeps a compiled kernel per shape; ours hardly repeat, and a thousand of them fill hundreds of megabytes
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("stopped; the same command continues where it was", err=True)
        sys.exit(130)


def _load(source: str, cache: Path) -> Any:
    from retrieval_distill.data.load import load

    return load(source, cache)


def _gained(dev: dict[str, Any]) -> str:
    before, after = dev["before"], dev["after"]
    return f"; on {dev['queries']} dev queries nDCG@10 {before['mean']:.3f} -> {after['mean']:.3f}"


def _needed(value: str | None, option: str, needs: str) -> str:
    if value is None:
        raise UserError(f"{option} needs {needs}")
    return value


def _save(found: Any, out: Path) -> None:
    found.save(out)
    _say(f"{out}: {len(found.query_ids):,} queries, {len(found):,} documents")


def _say(text: str) -> None:
    typer.echo(text)
