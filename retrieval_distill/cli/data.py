"""Commands for data: ``convert``, ``prepare``, ``generate``.

Knows options; must not know any format. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.cli.options import TEACHERS, LengthOption, OutFolder, SplitOption, check_teachers, say
from retrieval_distill.cli.reading import reads
from retrieval_distill.errors import UserError

app = typer.Typer()

SourceArgument = Annotated[
    str, typer.Argument(help="Folder, file or archive; beir:NAME, hf:NAME, ir:ID or python-docs.")
]


@app.command()
@reads
def convert(
    source: SourceArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write; for sentence-transformers a file.")],
    to: Annotated[
        str,
        typer.Option("--to", help="beir, jsonl, csv, parquet, hugging-face, ms-marco, trec, sentence-transformers."),
    ],
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Run of teacher scores: read for, or written from, a training table."),
    ] = None,
    split: SplitOption = "train",
    negatives: Annotated[int, typer.Option("--negatives", min=1, help="Negatives per row of a training table.")] = 7,
    *,
    options: Any,
    cache: Path,
) -> None:
    """Read a dataset in one format and write it in another.

    Example: retrieval-distill convert data/sample sample-parquet --to parquet

    Example: retrieval-distill convert docs.csv my-folder --to beir --columns id=doc_id,text=body,title=name
    """
    from retrieval_distill import api
    from retrieval_distill.data import formats
    from retrieval_distill.data.formats import training_table
    from retrieval_distill.data.formats.contract import Reading
    from retrieval_distill.data.run import Run

    formats.writer(to)
    reads_scores = scores is not None and to == training_table.TRAINING_TABLE.name
    run = Run.load(scores) if scores and reads_scores else None
    from retrieval_distill.data.load import load  # imports much

    dataset = load(source, cache, options)
    api.convert(dataset, out=out, to=to, scores=run, split=split, negatives=negatives)
    if scores is not None and not reads_scores:
        if options.format != training_table.TRAINING_TABLE.name:
            raise UserError("--scores is read with --to sentence-transformers, written with --format of that name")
        training_table.scores(source, Reading.of(options)).save(scores)
    if to == "trec":
        say("TREC files hold judgements only: no text was written")
    say(f"{out}: {to}, from {len(dataset.documents):,} documents, {len(dataset.queries):,} queries")


@app.command()
@reads
def prepare(
    source: SourceArgument,
    out: OutFolder,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="e.g. duplicates=near, segment=true, student=my-model. Repeatable."),
    ] = None,
    options_file: Annotated[
        Path | None, typer.Option("--options", help="YAML file of the same options; --set goes before it.")
    ] = None,
    *,
    options: Any,
    cache: Path,
) -> None:
    """Clean a dataset, cut long documents, keep held-out data out of training, and report on the data.

    Example: retrieval-distill prepare data/sample --out clean

    Example: retrieval-distill prepare my-docs --out clean --on-bad skip --set duplicates=near --set segment=true \
        --set student=packaged:all-MiniLM-L6-v2
    """
    from retrieval_distill import api
    from retrieval_distill.config import PrepareConfig, load_values, parse
    from retrieval_distill.data.load import load
    from retrieval_distill.reporting import data_report
    from retrieval_distill.runtime.stages import read_json

    values = {} if options_file is None else load_values(options_file)
    config = parse(PrepareConfig, values, "prepare", overrides or ())
    dataset = load(source, cache, options)
    api.prepare(dataset, out=out, config=config)
    say(data_report.table(read_json(out / "report.json")))
    say(f"{out}: corpus.jsonl, queries.jsonl, qrels/, report.json")


@app.command()
@reads
def generate(
    source: Annotated[str, typer.Option("--dataset", help="Folder, file or archive of documents; hf:NAME or ir:ID.")],
    out: OutFolder,
    cache: Path,
    options: Any,
    ways: Annotated[
        str | None,
        typer.Option("--ways", help="titles, headings, sentences, summary, seq2seq or llm, e.g. titles,sentences=2."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="e.g. round_trip.retrieval=10 or seq2seq.model=my-t5. Repeatable."),
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", help="For round_trip.retrieval: an index, fused with BM25.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The bi-encoder of --index.")] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help=f"For round_trip.teacher. {TEACHERS}")] = None,
    max_length: LengthOption = 512,
    store: Annotated[Path | None, typer.Option("--store", help="The teacher's score store.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 7,
) -> None:
    """Make queries from the documents of a dataset that has none: the split `generated` of a new dataset folder.

    Example: retrieval-distill generate --dataset data/sample --ways titles,sentences=2 --out with-queries
    """
    from retrieval_distill import api
    from retrieval_distill.config import GenerateConfig, parse
    from retrieval_distill.data.load import load
    from retrieval_distill.reporting import generated

    values: dict[str, Any] = {"ways": _ways(ways)} if ways else {}
    config = parse(GenerateConfig, values, "generate", overrides or ())
    check_teachers([teacher] if teacher else [], max_length, "auto", None)
    data = load(source, cache, options)
    asked = api.load_teacher(teacher, max_length=max_length) if teacher else None
    made = api.generate(data, out=out, index=index, model=model, teacher=asked, store=store, seed=seed, config=config)
    say(generated.table(made.manifest["counts"]))
    say(f"{out}: corpus.jsonl, queries.jsonl, qrels/generated.tsv, generated.parquet, report.json")
    say(f"next, train on them: retrieval-distill run own-corpus --out runs/mine --set dataset.source={out}")


def _ways(given: str) -> dict[str, str]:
    """``titles,sentences=2`` -> queries of each document by way, checked later."""
    pairs = [way.partition("=") for way in given.split(",")]
    return {name.strip(): number.strip() or "1" for name, _, number in pairs}
