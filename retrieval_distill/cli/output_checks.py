"""Checks before a command starts whether it may write its results where the user wants them.

One table lists what each command writes. Knows commands and their options; must not know what is written.
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

Check = Callable[[Any, Given], None]
"""A check of an option that names an output, given all options."""

STAGE_COMMANDS = (
    "benchmark", "compress", "convert", "demo", "distill", "embed", "export", "feedback-to-dataset", "fit-teacher",
    "gate", "generate", "index", "mine", "prepare", "run", "tune",
)  # fmt: skip
"""Commands that run stages, which have their folder to themselves."""


def check(command: str, given: Given) -> None:
    """Refuse options by which a command would write where it cannot or must not.

    Raises:
        UserError: See :mod:`retrieval_distill.runtime.destination`.
    """
    for option, check_output in CHECKS.get(command, {}).items():
        if given.get(option) is not None:
            check_output(given[option], given)


INPUT_OPTIONS = ("bi_encoder", "dataset", "model", "qrels", "queries", "retriever", "source", "teacher")
"""Options given as text that may name a file or folder to read."""

INPUT_KEYS = ("model", "source", "student", "teacher")
"""Endings of keys of ``--set`` whose values may do so."""

RESERVED = ("bm25", "python-docs", "starter")
"""Values that never name a file."""


def _inputs(given: Given, out: Path) -> Iterator[str | Path]:
    """Everything that might be a file or folder that the command reads."""
    for name, value in given.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, Path) and one is not out and name not in ("cache", "store"):
                yield one
            elif isinstance(one, str) and name in INPUT_OPTIONS and one not in RESERVED:
                yield from (one, one.rpartition("=")[2])
            elif isinstance(one, str) and one.partition("=")[0].endswith(INPUT_KEYS):
                yield one.partition("=")[2]


def _stage(name: str) -> Check:
    def check_output(out: Path, given: Given) -> None:
        destination.check_stage_folder(out, name)
        destination.check_not_input(out, *_inputs(given, out))

    return check_output


def _file(what: str, recognises: destination.Recogniser) -> Check:
    def check_output(path: Path, given: Given) -> None:
        destination.check_file(path, what, recognises)
        destination.check_not_input(path, *_inputs(given, path))

    return check_output


def _folder(name: str, finished: destination.Recogniser, besides: tuple[str, ...] = ()) -> Check:
    return lambda out, given: destination.check_appendable(out, name, finished, besides)


def _is_table(given: Given) -> bool:
    """Whether ``convert`` writes a training table, for which scores are read."""
    return bool(given["to"] == "sentence-transformers")


_run = _file("a run", kinds.is_run)
_training_table = _file("a training table", lambda path: {"query", "positive"} <= kinds.columns(path))
_table_of_vectors = _file("a table of vectors", lambda path: kinds.columns(path) == {"id", "vector"})
_run_folder = _folder("run", lambda folder: (folder / "recipe.json").is_file(), ("dataset",))
_run_or_scores = _file("a run or a table of scores", lambda path: kinds.is_run(path) or kinds.is_scores(path))
_rerankers = _folder("rerank", benchmark_folders.is_rerank_benchmark)


def _exported(out: str, given: Given) -> None:
    """A model goes to a folder, vectors to a file; where a database is, nothing can be asked here."""
    if given["to"] is not None:
        _stage("export")(Path(out), given)
    elif out.endswith(".parquet"):
        _table_of_vectors(Path(out), given)


CHECKS: dict[str, dict[str, Check]] = {
    **{name: {"out": _stage(name)} for name in
       ("compress", "distill", "embed", "fit-teacher", "gate", "generate", "index", "prepare")},
    **{name: {"out": _run} for name in ("filter-negatives", "mine", "retrieve", "score", "search")},
    **{name: {"out": _run_folder} for name in ("demo", "run")},
    "benchmark": {"out": _folder("benchmark", benchmark_folders.is_benchmark)},
    "convert": {
        "out": lambda out, given: (_training_table if _is_table(given) else _stage("convert"))(out, given),
        "scores": lambda scores, given: None if _is_table(given) else _run(scores, given),
    },
    "feedback-to-dataset": {"out": _stage("feedback")},
    "evaluate": {"json_file": _file("a table of measures", kinds.is_measures)},
    "export": {"out": _exported},
    "report": {"out": _file("a report", kinds.is_page)},
    "rerank": {"out": lambda out, given: (_run if out.suffix else _rerankers)(out, given)},
    "scores": {"export": _run_or_scores},
    "tune": {"out": _folder("tune", lambda folder: (folder / "search.json").is_file())},
}  # fmt: skip
"""Command -> option that names an output -> its check."""
