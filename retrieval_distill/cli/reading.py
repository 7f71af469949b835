"""How a source is read: the options that commands have which take one, listed once.

Knows options; must not know any format.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from retrieval_distill.cli.options import CacheOption, pairs
from retrieval_distill.runtime.files import CACHE

OPTIONS: dict[str, tuple[Any, Any]] = {
    "format": (
        Annotated[
            str | None, typer.Option("--format", help="The source's format, where its name or files do not tell.")
        ],
        None,
    ),
    "columns": (
        Annotated[
            str | None,
            typer.Option("--columns", help="e.g. id=doc_id,text=_source.body,title=name,queries.id=qid."),
        ],
        None,
    ),
    "queries": (
        Annotated[str | None, typer.Option("--queries", help="Table of queries, if the source has none.")],
        None,
    ),
    "qrels": (
        Annotated[
            list[str] | None,
            typer.Option("--qrels", help="SPLIT=FILE of judgements, if the source has none. Repeatable."),
        ],
        None,
    ),
    "encoding": (
        Annotated[str, typer.Option("--encoding", help="Encoding of text files, e.g. cp1252 or utf-16.")],
        "utf-8",
    ),
    "delimiter": (
        Annotated[str | None, typer.Option("--delimiter", help="What separates the fields of CSV files: ';' or tab.")],
        None,
    ),
    "on_bad": (
        Annotated[
            str, typer.Option("--on-bad", help="Rows that cannot be read: refuse (stop), or skip (leave out, counted).")
        ],
        "refuse",
    ),
    "unpack": (
        Annotated[
            list[str] | None,
            typer.Option(
                "--unpack", help="Limit of an archive: gigabytes=50, ratio=200, files=1000000, depth=32. Repeatable."
            ),
        ],
        None,
    ),
    "cache": (CacheOption, CACHE),
}
"""Key of ``ReadConfig`` (and ``cache``) -> its option and default."""


def reads(command: Callable[..., None], without: tuple[str, ...] = ()) -> Callable[..., None]:
    """Add the options to a command, which is given the checked ``options`` (``ReadConfig``) and ``cache`` for them.

    Args:
        command: The command.
        without: Options that it does not get.
    """
    added = {name: option for name, option in OPTIONS.items() if name not in without}

    @wraps(command)
    def reading(**values: Any) -> None:
        given = {name: values.pop(name) for name in added}
        command(**values, cache=given.pop("cache"), options=_checked(given))

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name not in ("cache", "options")]
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in added.items()
    ]
    reading.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return reading


def _checked(given: dict[str, Any]) -> Any:
    from retrieval_distill.config import ReadConfig, parse

    columns = [*filter(None, (given.get("columns") or "").split(","))]
    written = {"columns": columns, "qrels": given.get("qrels") or [], "unpack": given.get("unpack") or []}
    return parse(
        ReadConfig, {**given, **{name: pairs(f"--{name}", texts) for name, texts in written.items()}}, "options"
    )
