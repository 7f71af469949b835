"""Options that several commands share, and what they all do with a dataset, a Run and a line of text.

Knows option names and their help; must not know any command.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.errors import UserError
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

CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "retrieval-distill"


def load(source: str, cache: Path, options: Any = None) -> Any:
    """The dataset of ``--dataset``, read as ``options`` (``ReadConfig``) say."""
    from retrieval_distill.data import load as datasets

    return datasets.load(source, cache, options)


def load_runs(files: list[Path]) -> dict[str, Any]:
    """Runs by the names of their files.

    Raises:
        UserError: Two files have the same name, or one is no run.
    """
    from retrieval_distill.data.run import Run

    if len({path.stem for path in files}) < len(files):
        raise UserError("two run files have the same name, which would name two systems alike: rename one")
    return {path.stem: Run.load(path) for path in files}


def save(found: Any, out: Path) -> None:
    """Write a Run and say so."""
    found.save(out)
    say(f"{out}: {len(found.query_ids):,} queries, {len(found):,} documents")


def say(text: str) -> None:
    """Print a result; of several processes the first does."""
    if processes.rank() == 0:
        typer.echo(text)
