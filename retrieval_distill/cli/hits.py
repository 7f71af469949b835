"""Search results: for a person the names, scores and the sentence that fits best, for a program JSON.

Knows what was found and the terminal; must not know how it was found.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.formatting import snippet_parts
from retrieval_distill.search.searcher import texts_of

if TYPE_CHECKING:
    from rich.console import Console


INDENT = 3
"""Of the lines below a document's name."""


@dataclass(frozen=True)
class Hit:
    """One document found: ``passage`` is the id of its best passage (its own, where documents are whole)."""

    rank: int
    id: str
    passage: str
    score: float
    title: str
    snippet: tuple[str, str, str]


def hits(found: Run, dataset: Dataset, query: str) -> list[Hit]:
    """What was found for one query, a passage of each document, best first.

    Raises:
        UserError: The dataset lacks one of them.
    """
    passages = found.frame["doc_id"].tolist()
    rows = zip(texts_of(dataset, passages), dataset.parents_of(passages), found.frame["score"].tolist(), strict=True)
    return [
        Hit(rank, id_, passage, score, title, snippet_parts(text, query))
        for rank, ((passage, title, text), id_, score) in enumerate(rows, 1)
    ]


def as_json(query: str, listed: list[Hit], milliseconds: float) -> str:
    """One line of JSON."""
    rows = [asdict(hit) | {"snippet": "".join(hit.snippet)} for hit in listed]
    return json.dumps({"query": query, "milliseconds": round(milliseconds, 1), "hits": rows}, ensure_ascii=False)


def show(listed: list[Hit], console: Console) -> None:
    """Print hits: in colour, the best sentence bold, on a terminal; plain elsewhere."""
    from rich.text import Text

    for hit in listed:
        name, id_ = (hit.title, "bold cyan"), (f"  {hit.id}" if hit.title else hit.id, "cyan")
        console.print(Text.assemble((f"{hit.rank}. ", "dim"), name, id_, (f"  {hit.score:.3f}", "green")))
        before, sentence, after = hit.snippet
        text = Text.assemble((before, "dim"), (sentence, "bold"), (after, "dim"))
        for line in text.wrap(console, console.width - INDENT):
            line.rstrip()
            console.print(Text(" " * INDENT).append_text(line))
    if not listed:
        console.print("nothing found")
