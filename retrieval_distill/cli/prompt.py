"""The prompt: queries from the keyboard, or from a pipe, answered one by one by a searcher that stays warm.

Knows the terminal; must not know how anything is found.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import typer
from rich.console import Console

from retrieval_distill.cli import hits
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted, visible
from retrieval_distill.search.hits import Hit, texts_of
from retrieval_distill.search.questions import clean_input
from retrieval_distill.search.searcher import Searcher

HELP = "type a query; :3 shows the whole of the third document, :q or Ctrl-D ends"


def loop(searcher: Searcher, depth: int, as_json: bool) -> None:
    """Answer every line of the standard input; on a terminal with a prompt, a history and help.

    What is wrong with one query is said, and the next one is read. An input that is closed holds no line.
    """
    if sys.stdin is None:
        return
    console, listed = Console(highlight=False), list[Hit]()
    if sys.stdin.isatty():
        with suppress(ImportError):  # where there is none, lines are not edited
            import readline  # noqa: F401
        console.print(f"{counted(searcher.size, 'document')}; {HELP}", style="dim")
    for line in _lines():
        if line == ":q":
            return
        try:
            if line.startswith(":"):
                _whole(line[1:], listed, searcher, console)
            else:
                listed = _answer(searcher, line, depth, console, as_json)
        except UserError as error:
            typer.echo(visible(f"error: {error}"), err=True)


def once(searcher: Searcher, query: str, depth: int, as_json: bool) -> None:
    """Answer one query.

    Raises:
        UserError: The query is empty, or the dataset lacks a document that the index holds.
    """
    _answer(searcher, clean_input(query), depth, Console(highlight=False), as_json)


def _answer(searcher: Searcher, query: str, depth: int, console: Console, as_json: bool) -> list[Hit]:
    """Find, print and return what was found, as long as it took."""
    start = time.perf_counter()
    found = searcher(query, depth)
    milliseconds = 1000 * (time.perf_counter() - start)
    if as_json:
        typer.echo(hits.as_json(query, found, milliseconds))
        return found
    hits.show(found, console)
    console.print(
        f"{len(found)} of {counted(searcher.size, 'document')} in {milliseconds:.0f} ms, by {searcher.how}", style="dim"
    )
    return found


def _lines() -> Iterator[str]:
    """The lines of the input that hold something, without their ends and what a terminal's keys leave."""
    read: Callable[[], str] = (lambda: input("> ")) if sys.stdin.isatty() else input
    while True:
        try:
            line = clean_input(read())
        except EOFError:
            return
        if line:
            yield line


def _whole(number: str, listed: list[Hit], searcher: Searcher, console: Console) -> None:
    """Print the whole text of a document that was found."""
    shown = {str(hit.rank): hit.passage for hit in listed}
    if number not in shown:
        raise UserError(f":{number}: {HELP}")
    ((_, title, text),) = texts_of(searcher.dataset, [shown[number]])
    whole = f"{title}\n{text}" if title else text
    console.print(visible(whole.replace("\r\n", "\n")), markup=False)
