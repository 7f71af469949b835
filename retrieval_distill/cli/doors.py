"""What every command that writes asks first: whether its results may go where they are wanted.

One table of what each command writes; the check runs before a command reads anything. Knows commands and their options;
must not know what is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from retrieval_distill.data import kinds
from retrieval_distill.evaluation import benchmark_folders
from retrieval_distill.runtime import destination

Given = dict[str, Any]
"""A command's options by name."""

Door = Callable[[Any, Given], None]
"""What is asked of an option that names what is written."""

WAITS = ("benchmark", "compress", "convert", "demo", "distill", "embed", "fit-teacher", "gate", "generate", "index",
         "mine", "prepare", "run", "tune")  # fmt: skip
"""Commands that end in stages, which work in a folder by themselves."""


def check(command: str, given: Given) -> None:
    """Refuse options by which a command would write where it cannot or must not.

    Raises:
        UserError: See :mod:`retrieval_distill.runtime.destination`.
    """
    for option, door in DOORS.get(command, {}).items():
        if given.get(option) is not None:
            door(given[option], given)


READ = ("bi_encoder", "dataset", "model", "qrels", "queries", "retriever", "teacher")
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


def _stage(name: str) -> Door:
    def door(out: Path, given: Given) -> None:
        destination.check_stage_folder(out, name)
        destination.check_not_input(out, *_inputs(given, out))

    return door


def _file(what: str, recognises: destination.Recogniser) -> Door:
    def door(path: Path, given: Given) -> None:
        destination.check_file(path, what, recognises)
        destination.check_not_input(path, *_inputs(given, path))

    return door


def _kept(name: str, finished: destination.Recogniser, besides: tuple[str, ...] = ()) -> Door:
    return lambda out, given: destination.check_appendable(out, name, finished, besides)


def _is_table(given: Given) -> bool:
    """Whether ``convert`` writes a training table, for which scores are read."""
    return bool(given["to"] == "sentence-transformers")


_run = _file("a run", kinds.is_run)
_training_table = _file("a training table", lambda path: {"query", "positive"} <= kinds.columns(path))
_table_of_vectors = _file("a table of vectors", lambda path: kinds.columns(path) == {"id", "vector"})
_run_folder = _kept("run", lambda folder: (folder / "recipe.json").is_file(), ("dataset",))
_run_or_scores = _file("a run or a table of scores", lambda path: kinds.is_run(path) or kinds.is_scores(path))
_rerankers = _kept("rerank", benchmark_folders.is_rerank_benchmark)

DOORS: dict[str, dict[str, Door]] = {
    **{name: {"out": _stage(name)} for name in
       ("compress", "distill", "embed", "fit-teacher", "gate", "generate", "index", "prepare")},
    **{name: {"out": _run} for name in ("filter-negatives", "mine", "retrieve", "score", "search")},
    **{name: {"out": _run_folder} for name in ("demo", "run")},
    "benchmark": {"out": _kept("benchmark", benchmark_folders.is_benchmark)},
    "convert": {
        "out": lambda out, given: (_training_table if _is_table(given) else _stage("convert"))(out, given),
        "scores": lambda scores, given: None if _is_table(given) else _run(scores, given),
    },
    "evaluate": {"json_file": _file("a table of measures", kinds.is_measures)},
    "export": {"out": lambda out, given: _table_of_vectors(Path(out), given) if out.endswith(".parquet") else None},
    "report": {"out": _file("a report", kinds.is_page)},
    "rerank": {"out": lambda out, given: (_run if out.suffix else _rerankers)(out, given)},
    "scores": {"export": _run_or_scores},
    "tune": {"out": _kept("tune", lambda folder: (folder / "search.json").is_file())},
}  # fmt: skip
"""Command -> option that names what is written -> what must hold for it."""
