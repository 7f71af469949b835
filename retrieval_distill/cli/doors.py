"""What every command that writes asks first: whether its results may go where they are wanted.

One table of what each command writes; the check runs before a command reads anything. Knows commands and their options;
must not know what is written.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from retrieval_distill.evaluation import own_folders
from retrieval_distill.runtime import destination, lock, processes

Given = dict[str, Any]
"""A command's options by name."""

WAITS = ("benchmark", "compress", "convert", "demo", "distill", "embed", "fit-teacher", "gate", "generate", "index",
         "mine", "prepare", "run")  # fmt: skip
"""Commands that end in stages, which work in a folder by themselves."""

WaitOption = Annotated[
    bool, typer.Option("--wait", help="Wait for another process that writes in the same folder; else it is refused.")
]


def guarded(command: str, function: Callable[..., None]) -> Callable[..., None]:
    """A command that asks first, and that has the option ``--wait`` if it ends in a stage."""

    @wraps(function)
    def asking(**given: Any) -> None:
        wait = given.pop("wait", False) if command in WAITS else False
        if processes.rank() == 0:
            check(command, given)
        with lock.waiting(wait):
            function(**given)

    signature = inspect.signature(function, eval_str=True)
    if command in WAITS:
        added = inspect.Parameter("wait", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=WaitOption)
        signature = signature.replace(parameters=[*signature.parameters.values(), added])
    asking.__signature__ = signature  # type: ignore[attr-defined]
    return asking


def check(command: str, given: Given) -> None:
    """Refuse options by which a command would write where it cannot or must not.

    Raises:
        UserError: See :mod:`retrieval_distill.runtime.destination`.
    """
    for option, door in DOORS.get(command, {}).items():
        if given.get(option) is not None:
            door(given[option], given)


READ = ("bi_encoder", "dataset", "model", "qrels", "queries", "retriever", "source", "teacher")
"""Options that are given as text, and name a file or folder if there is one of that name."""

READ_KEYS = ("model", "source", "student", "teacher")
"""Ends of keys of ``--set`` whose values do."""

NAMES = ("bm25", "python-docs", "starter")
"""What they may name that is never a file."""


def _inputs(given: Given, out: Path) -> Iterator[str | Path]:
    """All that might be a file or folder that a command reads."""
    for name, value in given.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Path) and one is not out and name not in ("cache", "store"):
                yield one
            elif isinstance(one, str) and name in READ and one not in NAMES:
                yield from (one, one.rpartition("=")[2])
            elif isinstance(one, str) and one.partition("=")[0].endswith(READ_KEYS):
                yield one.partition("=")[2]


def _stage(name: str) -> Callable[[Path, Given], None]:
    def door(out: Path, given: Given) -> None:
        destination.check_stage_folder(out, name)
        destination.check_not_input(out, *_inputs(given, out))

    return door


def _file(what: str, recognises: destination.Recogniser) -> Callable[[Path, Given], None]:
    def door(path: Path, given: Given) -> None:
        destination.check_file(path, what, recognises)
        destination.check_not_input(path, *_inputs(given, path))

    return door


def _run_folder(out: Path, given: Given) -> None:
    destination.check_appendable(out, "run", lambda folder: (folder / "recipe.json").is_file(), ("dataset",))


def _converted(out: Path, given: Given) -> None:
    (_training_table if given["to"] == "sentence-transformers" else _stage("convert"))(out, given)


def _scores_of_a_table(scores: Path, given: Given) -> None:
    if given["to"] != "sentence-transformers":  # else they are read
        _run(scores, given)


def _benchmarked(out: Path, given: Given) -> None:
    destination.check_appendable(out, "benchmark", own_folders.is_benchmark)


def _reranked(out: Path, given: Given) -> None:
    if out.suffix:
        _run(out, given)
    else:
        destination.check_appendable(out, "rerank", own_folders.is_rerank_benchmark)


def _vectors(out: str, given: Given) -> None:
    if out.endswith(".parquet"):
        _table_of_vectors(Path(out), given)


def is_run(path: Path) -> bool:
    """Whether a file holds a Run."""
    if path.suffix == ".parquet":
        return {"query_id", "doc_id", "score"} <= columns(path)
    fields = _first_line(path).split()
    return len(fields) >= 5 and all(_is_number(field) for field in fields[3:5])


def columns(path: Path) -> set[str]:
    """The columns of a table: Parquet, JSON lines or CSV; none if it is no table."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return set(pq.read_schema(path).names)
        except (pa.ArrowException, OSError):
            return set()
    line = _first_line(path)
    try:
        return set(json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return {name.strip('" ') for name in line.split(",")}


def _is_page(path: Path) -> bool:
    with path.open("rb") as file:
        return b"retrieval-distill" in file.read(4096)


def _is_measured(path: Path) -> bool:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and all(isinstance(system, dict) for system in found.values())


def _first_line(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(1 << 20).decode("utf-8", "replace")


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


_run = _file("a run", is_run)

_training_table = _file("a training table", lambda path: {"query", "positive"} <= columns(path))

_table_of_vectors = _file("a table of vectors", lambda path: columns(path) == {"id", "vector"})

DOORS: dict[str, dict[str, Callable[[Any, Given], None]]] = {
    **{name: {"out": _stage(name)} for name in
       ("compress", "distill", "embed", "fit-teacher", "gate", "generate", "index", "prepare")},
    **{name: {"out": _run} for name in ("filter-negatives", "mine", "retrieve", "score", "search")},
    **{name: {"out": _run_folder} for name in ("demo", "run")},
    "benchmark": {"out": _benchmarked},
    "convert": {"out": _converted, "scores": _scores_of_a_table},
    "evaluate": {"json_file": _file("a table of measures", _is_measured)},
    "export": {"out": _vectors},
    "report": {"out": _file("a report", _is_page)},
    "rerank": {"out": _reranked},
    "scores": {"export": _file("a run or a table of scores", lambda path: is_run(path) or _is_scores(path))},
}  # fmt: skip
"""Command -> option that names what is written -> what must hold for it."""


def _is_scores(path: Path) -> bool:
    return {"query", "document", "score"} <= columns(path)
