"""What a search is asked to do beyond dense retrieval, put together from what is kept beside the index.

Knows a place and a searcher; must not know options or the terminal.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from retrieval_distill.config import ReadConfig
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.formats import tables, texts
from retrieval_distill.data.formats.contract import Reading
from retrieval_distill.errors import UserError
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime import stages
from retrieval_distill.search.location import Place
from retrieval_distill.search.questions import questions
from retrieval_distill.search.searcher import FUSED, Searcher

TUNED = "tuned"

WEIGHTS = "fusion.json"


def hybrid_searcher(searcher: Searcher, place: Place, fusion: str) -> Searcher:
    """The searcher with BM25 beside it, whose index is kept on disk.

    Args:
        searcher: Dense search.
        place: Where BM25's index and the weights are kept.
        fusion: ``"tuned"``, or weights as :func:`retrieval_distill.retrieval.hybrid.parse` reads them.

    Raises:
        UserError: No weights were tuned, or they are not written as they should be.
    """
    kept = hybrid.load(place.beside / WEIGHTS) if fusion == TUNED else hybrid.parse(fusion)
    if kept is None:
        raise UserError(f"no weights are kept in {place.beside}: tune them with --tune SPLIT, or say --hybrid rank:0.5")
    return replace(searcher, lexical=lexical(place), fusion=kept)


def tune(searcher: Searcher, place: Place, split: str) -> str:
    """Tune the weights of hybrid search on a judged split, and keep them; what was tried, as text.

    Raises:
        UserError: The dataset has no such split.
    """
    dataset = searcher.dataset
    judged, asked = dataset.split(split), dataset.queries_of(split)
    found = hybrid.tune(lexical(place).search(asked, FUSED), searcher.dense(asked, FUSED), judged)
    path = place.beside / WEIGHTS
    stages.write_json(path, found | {"split": split})
    return f"{hybrid.table(found)}\n{path}: used by --hybrid {TUNED}"


def lexical(place: Place) -> BM25:
    """BM25 over the place's documents; built once."""
    return BM25.kept(place.beside / "bm25", place.dataset.documents)


def queries(dataset: Dataset, named: str, options: ReadConfig | None = None) -> Texts:
    """Queries to answer: those of a split of the dataset, or of a table with the columns ``id`` and ``text``.

    Args:
        dataset: Whose splits are looked through first.
        named: The split, or the table's file.
        options: How the table is read; ``None``: the defaults.

    Raises:
        UserError: There is neither, or a query is empty.
    """
    if named in dataset.qrels:
        return dataset.queries_of(named)
    if not Path(named).is_file():
        splits = ", ".join(dataset.qrels) or "none"
        raise UserError(f"--queries {named!r}: no such file, and no split of {dataset.name!r}, which has: {splits}")
    read = texts.read(tables.table(named), "queries", Reading.of(options or ReadConfig()))
    return questions((id_, f"{title} {text}".strip()) for id_, title, text in read.records())
