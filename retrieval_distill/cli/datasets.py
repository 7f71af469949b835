"""Commands for data: ``convert``, ``prepare``, ``generate``.

Knows options; must not know any format. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.cli.options import (
    CACHE,
    TEACHERS,
    CacheOption,
    DatasetArgument,
    LengthOption,
    OutFolder,
    SplitOption,
    say,
)
from retrieval_distill.errors import UserError

app = typer.Typer()

SourceArgument = Annotated[
    str, typer.Argument(help="Folder, file or archive; beir:NAME, hf:NAME, ir:ID or python-docs.")
]
FormatOption = Annotated[
    str | None, typer.Option("--format", help="The source's format, where its name or files do not tell.")
]
ColumnsOption = Annotated[
    str | None, typer.Option("--columns", help="e.g. id=doc_id,text=body,title=name,queries.id=qid,qrels.score=grade.")
]
QueriesOption = Annotated[str | None, typer.Option("--queries", help="Table of queries, if the source has none.")]
QrelsOption = Annotated[
    list[str] | None, typer.Option("--qrels", help="SPLIT=FILE of judgements, if the source has none. Repeatable.")
]
EncodingOption = Annotated[str, typer.Option("--encoding", help="Encoding of text files, e.g. cp1252 or utf-16.")]
OnBadOption = Annotated[
    str, typer.Option("--on-bad", help="Rows that cannot be read: refuse (stop), or skip (leave out, counted).")
]


@app.command()
def convert(
    source: SourceArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write; for sentence-transformers a file.")],
    to: Annotated[str, typer.Option("--to", help="beir, jsonl, csv, parquet, trec or sentence-transformers.")],
    scores: Annotated[
        Path | None,
        typer.Option("--scores", help="Run of teacher scores: read for, or written from, a training table."),
    ] = None,
    split: SplitOption = "train",
    negatives: Annotated[int, typer.Option("--negatives", min=1, help="Negatives per row of a training table.")] = 7,
    format_: FormatOption = None,
    columns: ColumnsOption = None,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    encoding: EncodingOption = "utf-8",
    on_bad: OnBadOption = "refuse",
    cache: CacheOption = CACHE,
) -> None:
    """Read a dataset in one format and write it in another.

    Example: retrieval-distill convert data/sample sample-parquet --to parquet

    Example: retrieval-distill convert docs.csv my-folder --to beir --columns id=doc_id,text=body,title=name
    """
    from retrieval_distill import verbs
    from retrieval_distill.data.formats import training_table
    from retrieval_distill.data.formats.contract import Reading
    from retrieval_distill.data.load import load
    from retrieval_distill.retrieval.run import Run

    options = _options(format_, columns, queries, qrels, encoding, on_bad)
    dataset = load(source, cache, options)
    reads_scores = scores is not None and to == training_table.TRAINING_TABLE.name
    verbs.convert(dataset, out, to, Run.load(scores) if scores and reads_scores else None, split, negatives)
    if scores is not None and not reads_scores:
        if format_ != training_table.TRAINING_TABLE.name:
            raise UserError("--scores is read with --to sentence-transformers, written with --format of that name")
        training_table.scores(source, Reading.of(options)).save(scores)
    if to == "trec":
        say("TREC files hold judgements only: no text was written")
    say(f"{out}: {to}, from {len(dataset.documents):,} documents, {len(dataset.queries):,} queries")


@app.command()
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
    format_: FormatOption = None,
    columns: ColumnsOption = None,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    encoding: EncodingOption = "utf-8",
    on_bad: OnBadOption = "refuse",
    cache: CacheOption = CACHE,
) -> None:
    """Clean a dataset, cut long documents, keep held-out data out of training, and report on the data.

    Example: retrieval-distill prepare data/sample --out clean

    Example: retrieval-distill prepare my-docs --out clean --on-bad skip --set duplicates=near --set segment=true \
        --set student=packaged:all-MiniLM-L6-v2
    """
    from retrieval_distill import verbs
    from retrieval_distill.artifacts import read_json
    from retrieval_distill.config import load_values
    from retrieval_distill.data.load import load
    from retrieval_distill.reporting import data_report

    values = {} if options_file is None else load_values(options_file)
    dataset = load(source, cache, _options(format_, columns, queries, qrels, encoding, on_bad))
    verbs.prepare(dataset, out, overrides or (), **values)
    say(data_report.table(read_json(out / "report.json")))
    say(f"{out}: corpus.jsonl, queries.jsonl, qrels/, report.json")


@app.command()
def generate(
    dataset: DatasetArgument,
    out: OutFolder,
    ways: Annotated[
        str | None,
        typer.Option("--ways", help="titles, headings, sentences, summary, seq2seq or llm, e.g. titles,sentences=2."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="e.g. round_trip.retrieval=10 or seq2seq.model=my-t5. Repeatable."),
    ] = None,
    teacher: Annotated[str | None, typer.Option("--teacher", help=f"For round_trip.teacher. {TEACHERS}")] = None,
    max_length: LengthOption = 512,
    store: Annotated[Path | None, typer.Option("--store", help="The teacher's score store.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of every draw.")] = 7,
    format_: FormatOption = None,
    columns: ColumnsOption = None,
    encoding: EncodingOption = "utf-8",
    on_bad: OnBadOption = "refuse",
    cache: CacheOption = CACHE,
) -> None:
    """Make queries from the documents of a dataset that has none: the split `generated` of a new dataset folder.

    Example: retrieval-distill generate --dataset data/sample --ways titles,sentences=2 --out with-queries
    """
    from retrieval_distill import verbs
    from retrieval_distill.data.load import load
    from retrieval_distill.reporting import generated

    data = load(dataset, cache, _options(format_, columns, None, None, encoding, on_bad))
    asked = verbs.load_teacher(teacher, max_length) if teacher else None
    values: dict[str, Any] = {"ways": _ways(ways)} if ways else {}
    manifest = verbs.generate(data, out, overrides or (), asked, store, seed, **values)
    say(generated.table(manifest["counts"]))
    say(f"{out}: corpus.jsonl, queries.jsonl, qrels/generated.tsv, generated.parquet, report.json")


def _ways(given: str) -> dict[str, str]:
    """``titles,sentences=2`` -> queries of each document by way, checked later."""
    pairs = [way.partition("=") for way in given.split(",")]
    return {name.strip(): number.strip() or "1" for name, _, number in pairs}


def _options(
    format_: str | None, columns: str | None, queries: str | None, qrels: list[str] | None, encoding: str, on_bad: str
) -> Any:
    """The reading options as a recipe's dataset section has them."""
    from retrieval_distill.config import ReadConfig, parse

    values = {
        "format": format_, "columns": _pairs("--columns", (columns or "").split(",") if columns else []),
        "queries": queries, "qrels": _pairs("--qrels", qrels or []), "encoding": encoding, "on_bad": on_bad,
    }  # fmt: skip
    return parse(ReadConfig, values, "options")


def _pairs(option: str, given: list[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, pair in zip(given, pairs, strict=True) if not (pair[0] and pair[2])]:
        raise UserError(f"{option} {wrong[0]!r}: write it as NAME=VALUE")
    return {name.strip(): value.strip() for name, _, value in pairs}
