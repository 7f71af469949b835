"""How a source is read: the options that every command has that takes one, listed once.

Knows options; must not know any format.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any

import typer

from retrieval_distill.cli.options import CACHE, CacheOption, pairs

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
            typer.Option("--columns", help="e.g. id=doc_id,text=body,title=name,queries.id=qid,qrels.score=grade."),
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
    "on_bad": (
        Annotated[
            str, typer.Option("--on-bad", help="Rows that cannot be read: refuse (stop), or skip (leave out, counted).")
        ],
        "refuse",
    ),
    "cache": (CacheOption, CACHE),
}
"""Key of ``ReadConfig`` (and ``cache``) -> its option and default."""


def reads(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which is given the checked ``options`` (``ReadConfig``) and ``cache`` for them."""

    @wraps(command)
    def reading(**values: Any) -> None:
        given = {name: values.pop(name) for name in OPTIONS}
        command(**values, cache=given.pop("cache"), options=_checked(given))

    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name not in ("cache", "options")]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in OPTIONS.items()
    ]
    reading.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
    return reading


def _checked(given: dict[str, Any]) -> Any:
    from retrieval_distill.config import ReadConfig, parse

    columns, qrels = (given["columns"] or "").split(","), given["qrels"] or []
    given_pairs = {"columns": pairs("--columns", [*filter(None, columns)]), "qrels": pairs("--qrels", qrels)}
    return parse(ReadConfig, {**given, **given_pairs}, "options")
