"""The command line: one thin command per verb - parse, call, print.

Knows how to say errors; must not know any maths.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import typer
import typer.core

from retrieval_distill.cli import commands, streams
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import visible
from retrieval_distill.runtime import processes, quiet
from retrieval_distill.runtime.progress import show_progress


class Stoppable(typer.core.TyperGroup):
    """Commands that Ctrl-C ends with a word; the library around them would end in silence."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped; the same command continues where it was", err=True)
            sys.exit(130)


app = typer.Typer(
    cls=Stoppable,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    result_callback=processes.leave,
    help="Distil any cross-encoder into a small, fast retriever on your own corpus, and measure it.\n\n"
    "Try `retrieval-distill demo`, then `retrieval-distill search runs/demo 'split a path into root and extension'`.",
)
for group in "runs tune data teachers candidates students vectors search serve measures feedback".split():
    import_module(f"{__name__}.{group}")
commands.app.registered_commands.sort(key=lambda command: commands.PANELS.index(str(command.rich_help_panel)))
app.add_typer(commands.app)


def main() -> None:
    """Run the command line; a user's mistake ends with one clear message and exit code 2."""
    streams.prepare()
    if processes.rank() == 0:  # of several processes one tells how it goes
        show_progress()
    quiet.process()
    # torch keeps a compiled kernel per shape; ours hardly repeat, and a thousand of them only fill memory
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    try:
        app()
    except UserError as error:
        typer.echo(visible(f"error: {error}"), err=True)
        sys.exit(2)
