"""Search results: for a person the names, scores and the sentence that fits best, for a program JSON.

Knows what was found and the terminal; must not know how it was found.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from retrieval_distill.formatting import visible
from retrieval_distill.search.hits import Hit

if TYPE_CHECKING:
    from rich.console import Console


INDENT = 3
"""Of the lines below a document's name."""


def one_line(text: str) -> str:
    """Text as it stands in a line of a terminal."""
    return visible(" ".join(text.splitlines()))


def as_json(query: str, listed: list[Hit], milliseconds: float) -> str:
    """One line of JSON, in ASCII: no terminal acts on it, and none lacks a character of it."""
    rows = [
        {"rank": hit.rank, "id": hit.id, "passage": hit.passage, "score": hit.score, "title": hit.title}
        | {"snippet": hit.snippet}
        for hit in listed
    ]
    return json.dumps({"query": query, "milliseconds": round(milliseconds, 1), "hits": rows})


def show(listed: list[Hit], console: Console) -> None:
    """Print hits: in colour, the best sentence bold, on a terminal; plain elsewhere."""
    from rich.text import Text

    for hit in listed:
        title, id_ = one_line(hit.title), one_line(hit.id)
        name, key = (title, "bold cyan"), (f"  {id_}" if title else id_, "cyan")
        console.print(Text.assemble((f"{hit.rank}. ", "dim"), name, key, (f"  {hit.score:.3f}", "green")))
        before, sentence, after = map(visible, hit.parts)
        text = Text.assemble((before, "dim"), (sentence, "bold"), (after, "dim"))
        for line in text.wrap(console, console.width - INDENT):
            line.rstrip()
            console.print(Text(" " * INDENT).append_text(line))
    if not listed:
        console.print("nothing found")
