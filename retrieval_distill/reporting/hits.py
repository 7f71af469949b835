"""Search results: for a person the names, scores and the sentence that fits best, for a program JSON.

Knows what was found and the terminal; must not know how it was found.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.reporting.text import snippet_parts

if TYPE_CHECKING:
    from rich.console import Console

    from retrieval_distill.searching.searcher import Found


@dataclass(frozen=True)
class Hit:
    """One document found: ``passage`` is the id of its best passage (its own, where documents are whole)."""

    rank: int
    id: str
    passage: str
    score: float
    title: str
    snippet: tuple[str, str, str]


def hits(found: Found, dataset: Dataset, query: str) -> list[Hit]:
    """The documents found for one query, best first.

    Raises:
        UserError: The dataset lacks one of them.
    """
    from retrieval_distill.searching.searcher import text_of

    best: dict[str, str] = {}
    passages = found.passages.frame["doc_id"].tolist()
    for passage, document in zip(passages, dataset.parents_of(passages), strict=True):
        best.setdefault(document, passage)
    listed = []
    for rank, (id_, score) in enumerate(
        zip(found.documents.frame["doc_id"], found.documents.frame["score"], strict=True), 1
    ):
        title, text = text_of(dataset, best[id_])
        listed.append(Hit(rank, id_, best[id_], float(score), title, snippet_parts(text, query)))
    return listed


def as_json(query: str, listed: list[Hit], milliseconds: float) -> str:
    """One line of JSON."""
    rows = [asdict(hit) | {"snippet": "".join(hit.snippet)} for hit in listed]
    return json.dumps({"query": query, "milliseconds": round(milliseconds, 1), "hits": rows}, ensure_ascii=False)


def show(listed: list[Hit], console: Console) -> None:
    """Print hits: in colour, the best sentence bold, on a terminal; plain elsewhere."""
    from rich.padding import Padding
    from rich.text import Text

    for hit in listed:
        name = (hit.title or hit.id, "bold cyan")
        console.print(Text.assemble((f"{hit.rank}. ", "dim"), name, (f"  {hit.score:.3f}", "green")))
        before, sentence, after = hit.snippet
        console.print(Padding(Text.assemble((before, "dim"), (sentence, "bold"), (after, "dim")), (0, 0, 0, 3)))
    if not listed:
        console.print("nothing found")
