"""Nouns as a shell names them, options that several commands share, and what they do with Runs and lines of text.

Knows option names; must not know any command. What a user can mend is a ``UserError``, raised before anything costly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from retrieval_distill.cli.commands import Spelled
from retrieval_distill.cli.declarations import KEYS
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted, visible
from retrieval_distill.runtime import processes

SET = Spelled("--set", "KEY=VALUE", name=KEYS)
"""Keys of the act's section of a recipe."""

TEACHER = Spelled("--teacher", act="config.teacher.MemberConfig", name="model")

Repeated = list[str] | None
Cache = Annotated[Path, Spelled(act="load_dataset")]
Keys = Annotated[Repeated, SET]
Measures = Annotated[Repeated, Spelled("--measure", act="evaluate")]
OutFile = Annotated[Path, Spelled(help="Run file to write: .parquet, else TREC format.")]
RunFiles = Annotated[list[Path], Spelled("", help="Run files (.parquet, else TREC format).")]
ScoredFile = Annotated[Path, Spelled("", help="Run of teacher scores, written by `score`.")]
Split = Annotated[str, Spelled(help="Split whose queries and judgements count: train, dev or test.")]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the files of a dataset are read."""

    ACT: ClassVar = "config.dataset.ReadConfig"

    format: str | None
    columns: Annotated[str | None, Spelled(metavar="NAME=COLUMN,...")] = None
    encoding: str
    delimiter: str | None
    on_bad: str
    unpack: Annotated[Repeated, Spelled(metavar="LIMIT=NUMBER")] = None

    def config(self) -> Any:
        """The options, checked."""
        from retrieval_distill.config import ReadConfig, parse

        given = {**vars(self), "columns": [*filter(None, (self.columns or "").split(","))]}
        for name in {"columns", "qrels", "unpack"} & set(given):
            given[name] = pairs(f"--{name}", given[name])
        return parse(ReadConfig, given, "options")


@dataclass(frozen=True, kw_only=True)
class Tables(Reading):
    """The same of a dataset that may lack queries."""

    queries: str | None
    qrels: Annotated[Repeated, Spelled(metavar="SPLIT=FILE")] = None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A dataset by name."""

    ACT: ClassVar = "load_dataset"

    dataset: Annotated[str, Spelled("--dataset", name="source")]
    cache: Path

    def load(self, reading: Reading | None = None) -> Any:
        """The dataset; ``None``: its format is recognised."""
        from retrieval_distill.data.dataset_loader import load

        return load(self.dataset, self.cache, reading.config() if reading else None)


@dataclass(frozen=True, kw_only=True)
class First(Source):
    """The same, told by its place."""

    dataset: Annotated[str, Spelled("", "source", name="source")]


@dataclass(frozen=True, kw_only=True)
class Teaching:
    """How a teacher scores."""

    ACT: ClassVar = "load_teacher"

    max_length: int | None
    dtype: str
    keys: Keys = None

    def config(self, name: str) -> Any:
        """The section that describes a teacher, or those of ``--set ensemble=...``, checked without loading any."""
        from retrieval_distill.config import parse_teacher

        return checked(parse_teacher(name, self.max_length, self.dtype, self.keys or ()))


def checked(config: Any) -> Any:
    """A section ``teacher``, once it is known that its models are to be had."""
    from retrieval_distill.teacher import teacher_loader

    for member in config.members:
        kind, file = teacher_loader.split(member.model)
        if kind != "scores" or not Path(file).is_file():  # a file may be large, and is read later
            teacher_loader.check(member)
    return config


def teachers(config: Any, data: Any) -> list[Any]:
    """The teachers that a section describes, for a dataset."""
    from retrieval_distill.teacher import teacher_loader

    return [teacher_loader.load(member, teacher_loader.Corpus(data.documents)) for member in config.members]


def check_index(folder: Path) -> None:
    """Refuse a folder that is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no index there; make one with: retrieval-distill index")


def check_models(*names: str | None) -> None:
    """Refuse a model that is not to be had; ``None`` is none."""
    from retrieval_distill import models

    for name in filter(None, names):
        models.check(name)


def checked_measures(names: Repeated) -> tuple[str, ...]:
    """The measures, or the usual ones."""
    from retrieval_distill.evaluation.measures import DEFAULT_MEASURES, parse_measures

    parse_measures(names or DEFAULT_MEASURES)
    return tuple(names or DEFAULT_MEASURES)


def check_ids(out: Path, queries: Any, documents: Any) -> None:
    """Refuse a file for a Run of these texts that cannot hold all their ids."""
    from retrieval_distill.data import trec_run

    if out.suffix != ".parquet":
        trec_run.refuse_unfit(out, queries, documents)


def runs(files: list[Path]) -> dict[str, Any]:
    """Runs by the names of their files."""
    if len({path.stem for path in files}) < len(files):
        raise UserError("two run files have the same name, which would name two systems alike: rename one")
    if absent := [path for path in files if not path.is_file()]:
        raise UserError(f"{absent[0]}: no such run file")
    from retrieval_distill.data.run import Run

    return {path.stem: Run.load(path) for path in files}


def save(found: Any, out: Path) -> None:
    """Write a Run and say so."""
    found.save(out)
    say(f"{out}: {counted(len(found.query_ids), 'query')}, {counted(len(found), 'document')}")


def say(text: str) -> None:
    """Print a result; of several processes the first does."""
    if processes.rank() == 0:
        typer.echo(visible(text))


def pairs(option: str, given: Repeated, value: str = "VALUE") -> dict[str, str]:
    """``NAME=VALUE`` options as a dictionary."""
    parts = [text.partition("=") for text in given or ()]
    if wrong := ["".join(part) for part in parts if not (part[0] and part[2])]:
        raise UserError(f"{option} {wrong[0]}: write it as NAME={value}")
    names = [name.strip() for name, _, _ in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{option}: {twice[0]!r} is there twice")
    return {name.strip(): text.strip() for name, _, text in parts}
