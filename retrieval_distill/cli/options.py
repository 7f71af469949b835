"""Options that several commands share, and what they all do with a dataset, a Run and a line of text.

Knows option names and their help; must not know any command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import visible
from retrieval_distill.runtime import processes

DatasetArgument = Annotated[
    str,
    typer.Option("--dataset", help="Folder, file, archive, beir:NAME, nanobeir:NAME, hf:NAME, ir:ID or python-docs."),
]
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
EngineOption = Annotated[str, typer.Option("--engine", help="local, or ray: the nodes of a Ray cluster (RAY_ADDRESS).")]
CacheOption = Annotated[Path, typer.Option("--cache", help="Keeps datasets that are built or downloaded.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override, e.g. training.steps=50. May be repeated.")
]

DEFAULT_TEACHER = "cross-encoder/ms-marco-MiniLM-L6-v2"


def load(source: str, cache: Path, options: Any = None) -> Any:
    """The dataset of ``--dataset``, read as ``options`` (``ReadConfig``) say."""
    from retrieval_distill.data import load as datasets

    return datasets.load(source, cache, options)


def check_index(folder: Path) -> None:
    """Find out before anything is imported that an index cannot be opened.

    Raises:
        UserError: There is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no index there; make one with: retrieval-distill index")


def check_teachers(names: list[str], max_length: int | None, dtype: str, overrides: list[str] | None) -> None:
    """Find out cheaply that a teacher cannot be had, before a dataset is read or a weight loaded.

    Raises:
        UserError: No such teacher, or an option is missing or unknown.
    """
    from retrieval_distill.config import parse_teacher
    from retrieval_distill.teacher import load as teachers

    for name in names:
        for member in parse_teacher(name, max_length, dtype, overrides or ()).members:
            kind, file = teachers.split(member.model)
            if kind != "scores" or not Path(file).is_file():  # a file may be large, and is read later
                teachers.check(member)


def measures(names: list[str] | None) -> tuple[str, ...]:
    """The measures of ``--measure``, or the usual ones.

    Raises:
        UserError: There is no such measure.
    """
    from retrieval_distill.evaluation.measures import DEFAULT_MEASURES, parse_measures

    parse_measures(names or DEFAULT_MEASURES)
    return tuple(names or DEFAULT_MEASURES)


def load_runs(files: list[Path]) -> dict[str, Any]:
    """Runs by the names of their files.

    Raises:
        UserError: Two files have the same name, or one is no run.
    """
    if len({path.stem for path in files}) < len(files):
        raise UserError("two run files have the same name, which would name two systems alike: rename one")
    if absent := [path for path in files if not path.is_file()]:
        raise UserError(f"{absent[0]}: no such run file")
    from retrieval_distill.data.run import Run

    return {path.stem: Run.load(path) for path in files}


def check_ids(out: Path, queries: Any, documents: Any) -> None:
    """Refuse a file for a Run of these texts that cannot hold all their ids, before any work.

    Raises:
        UserError: See :func:`retrieval_distill.data.trec_run.refuse_unfit`.
    """
    from retrieval_distill.data import trec_run

    if out.suffix != ".parquet":
        trec_run.refuse_unfit(out, queries, documents)


def save(found: Any, out: Path) -> None:
    """Write a Run and say so."""
    found.save(out)
    say(f"{out}: {len(found.query_ids):,} queries, {len(found):,} documents")


def say(text: str) -> None:
    """Print a result; of several processes the first does."""
    if processes.rank() == 0:
        typer.echo(visible(text))


def pairs(option: str, given: list[str], value: str = "VALUE") -> dict[str, str]:
    """``NAME=VALUE`` options as a dictionary.

    Raises:
        UserError: One is written in another way, or a name is there twice.
    """
    parts = [text.partition("=") for text in given]
    if wrong := [text for text, part in zip(given, parts, strict=True) if not (part[0] and part[2])]:
        raise UserError(f"{option} {wrong[0]}: write it as NAME={value}")
    found = {name.strip(): value.strip() for name, _, value in parts}
    if len(found) < len(parts):
        names = [name.strip() for name, _, _ in parts]
        raise UserError(f"{option}: {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found
