"""Commands for data: ``convert``, ``prepare``, ``generate``.

Knows options; must not know any format. Heavy imports happen inside commands, so that ``--help`` is instant.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

from retrieval_distill import api
from retrieval_distill.cli import shell
from retrieval_distill.cli.commands import ARGUMENT, Spelled, command
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted


@command("Prepare data")
def convert(
    source: shell.First,
    out: Annotated[Path, ARGUMENT],
    to: str,
    reading: shell.Tables,
    scores: Path | None = None,
    **options: Any,
) -> None:
    """Read a dataset in one format and write it in another.

    Example: retrieval-distill convert data/sample sample-parquet --to parquet

    Example: retrieval-distill convert docs.csv my-folder --to beir --columns id=doc_id,text=body,title=name

    Options:
        scores: Run of teacher scores: read for, or written from, a training table.
    """
    from retrieval_distill.data import formats
    from retrieval_distill.data.formats.reading import Reading
    from retrieval_distill.data.formats.training_table import TRAINING_TABLE
    from retrieval_distill.data.formats.training_table import scores as scores_of
    from retrieval_distill.data.run import Run

    formats.writer(to)
    read = reading.config()
    run = Run.load(scores) if scores and to == TRAINING_TABLE.name else None
    dataset = source.load(reading)
    api.convert(dataset, out=out, to=to, scores=run, **options)
    if scores and run is None:
        if read.format != TRAINING_TABLE.name:
            raise UserError("--scores is read with --to sentence-transformers, written with --format of that name")
        scores_of(source.dataset, Reading.of(read)).save(scores)
    if to == "trec":
        shell.say("TREC files hold judgements only: no text was written")
    held = f"{counted(len(dataset.documents), 'document')}, {counted(len(dataset.queries), 'query')}"
    shell.say(f"{out}: {to}, from {held}")


@command("Prepare data")
def prepare(
    source: shell.First,
    out: Path,
    reading: shell.Tables,
    keys: shell.Keys = None,
    file: Annotated[Path | None, Spelled("--options")] = None,
) -> None:
    """Clean a dataset, cut long documents, keep held-out data out of training, and report on the data.

    Example: retrieval-distill prepare data/sample --out clean

    Example: retrieval-distill prepare my-docs --out clean --on-bad skip --set duplicates=near --set segment=true \
        --set student=packaged:all-MiniLM-L6-v2

    Options:
        file: YAML file of the same keys; ``--set`` goes before it.
    """
    from retrieval_distill.config import PrepareConfig, load_values, parse
    from retrieval_distill.data.prepare.data_report_file import DataReport
    from retrieval_distill.reporting import data_report

    config = parse(PrepareConfig, load_values(file) if file else {}, "prepare", keys or ())
    api.prepare(source.load(reading), out=out, config=config)
    if found := DataReport.read(out):
        shell.say(data_report.table(found))
    shell.say(f"{out}: corpus.jsonl, queries.jsonl, qrels/, report.json")


@command("Prepare data", without=("corpus",))
def generate(
    source: shell.Source,
    reading: shell.Tables,
    out: Path,
    ways: Annotated[str | None, Spelled(metavar="WAY[=NUMBER],...", act="config.generate.GenerateConfig")] = None,
    keys: shell.Keys = None,
    teacher: str | None = None,
    max_length: Annotated[int | None, Spelled(act="load_teacher")] = None,
    **options: Any,
) -> None:
    """Make queries from the documents of a dataset that has none: the split `generated` of a new dataset folder.

    Example: retrieval-distill generate --dataset data/sample --ways titles,sentences=2 --out with-queries

    Options:
        teacher: For ``round_trip.teacher`` and ``round_trip.score``: a teacher, named as for `score`.
    """
    from retrieval_distill.config import GenerateConfig, parse, parse_teacher
    from retrieval_distill.reporting import generated

    pairs = [way.partition("=") for way in ways.split(",")] if ways else []
    values = {"ways": {name.strip(): number.strip() or "1" for name, _, number in pairs}} if ways else {}
    config = parse(GenerateConfig, values, "generate", keys or ())
    judge = shell.checked(parse_teacher(teacher, max_length, "auto")) if teacher else None
    data = source.load(reading)
    made = api.generate(data, out=out, teacher=judge and shell.teachers(judge, data)[0], config=config, **options)
    shell.say(generated.table(made.manifest["counts"]))
    shell.say(f"{out}: corpus.jsonl, queries.jsonl, qrels/generated.tsv, generated.parquet, report.json")
    here = shlex.quote(f"dataset.source={out}")
    shell.say(f"next, train on them: retrieval-distill run gpl --out runs/mine --set generate=null --set {here}")
