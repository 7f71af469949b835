"""Reads collections of the library ir_datasets, as ``ir:ID`` (extra ``ir``). Knows that library; must not know files.

The judgements of ``ID`` itself become the split ``test``; those of ``ID/train``, ``ID/dev`` and ``ID/test`` the splits
of these names. Source: MacAvaney et al., "Simplified Data Wrangling with ir_datasets", SIGIR 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import judgements, texts
from retrieval_distill.data.formats.reading import Format, Reading, Row, Table
from retrieval_distill.errors import UserError

PREFIX = "ir:"

LARGE = 1 << 40
"""Size to assume if unknown, so that texts go to the cache."""


def read(source: str, reading: Reading) -> Dataset:
    """Read a collection; the library downloads it on first use, after its own notice about licences.

    Raises:
        UserError: The library is not installed, or has no such collection.
    """
    try:
        import ir_datasets
    except ImportError:
        raise UserError(f"{source} needs: pip install 'retrieval-distill[ir]'") from None
    name = source.removeprefix(PREFIX)
    parts = {split: _load(ir_datasets, f"{name}/{split}") for split in ("train", "dev", "test")}
    whole = _load(ir_datasets, name)
    if whole is None:
        raise UserError(f"{source}: ir_datasets has no collection of that id; see ir-datasets.com")
    splits = {"test": whole, **{split: part for split, part in parts.items() if part is not None}}
    judged = {split: part for split, part in splits.items() if part.has_qrels() and part.has_queries()}
    documents, further = texts.documents(_table(f"{source} documents", [whole], "docs_iter", "doc_id"), reading)
    asked = list({id(part): part for part in judged.values()}.values())
    queries = texts.read(_table(f"{source} queries", asked, "queries_iter", "query_id"), "queries", reading)
    dataset = Dataset(name.replace("/", "-"), documents, queries, metadata=further)
    for split, part in judged.items():
        rows = (
            (f"{source} {split}:{number}", (qrel.query_id, qrel.doc_id, qrel.relevance))
            for number, qrel in enumerate(part.qrels_iter(), 1)
        )
        found = judgements.of_rows(rows, reading)
        dataset.qrels[split] = judgements.collect(f"{source} {split}", found, documents, queries, reading)
    return dataset


def _load(library: Any, name: str) -> Any:
    try:
        return library.load(name)
    except KeyError:
        return None


def _table(name: str, parts: list[Any], iterate: str, id_: str) -> Table:
    def rows(_: Reading) -> Iterator[Row]:
        number = 0
        for part in parts:
            for item in getattr(part, iterate)():
                number += 1
                title = getattr(item, "title", "")
                text = item.text if hasattr(item, "text") else item.default_text()
                yield f"{name}:{number}", {"id": getattr(item, id_), "title": title, "text": text}

    return Table(name, LARGE if iterate == "docs_iter" else 0, {"ir_datasets": name}, rows)


IR = Format("ir-datasets", lambda source: source.startswith(PREFIX), read)
