"""Finds duplicate documents, of which the first is kept. Knows texts; must not know judgements."""

from __future__ import annotations

from collections.abc import Collection

from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.prepare.near import NearIndex
from retrieval_distill.data.prepare.words import shingles
from retrieval_distill.data.rows import RowIndex


def exact(texts: Texts) -> dict[int, int]:
    """Row of a copy -> row of the first document with the same title and text."""
    titles = texts.table["title"]
    firsts: dict[tuple[int, str], int] = {}
    copies: dict[int, int] = {}
    for row, first in RowIndex.of(texts.table["text"]).repeats():
        firsts.setdefault((first, titles[first].as_py()), first)
        kept = firsts.setdefault((first, titles[row].as_py()), row)
        if kept != row:
            copies[row] = kept
    return copies


def near(texts: Texts, skipped: Collection[int], threshold: float, size: int) -> dict[int, int]:
    """Row of a near copy -> row of the first kept document that is similar.

    Args:
        texts: The documents.
        skipped: Rows already known as copies.
        threshold: Jaccard similarity of word shingles above which a document is a near copy.
        size: Words per shingle.
    """

    def stored(row: int) -> frozenset[str]:
        title, text = (texts.table[name][row].as_py() for name in ("title", "text"))
        return shingles(f"{title} {text}", size)

    index, copies = NearIndex(threshold, stored), {}
    for row, (_, title, text) in enumerate(texts.records()):
        if row in skipped:
            continue
        found = shingles(f"{title} {text}", size)
        kept = index.find(found)
        if kept is None:
            index.add(row, found)
        else:
            copies[row] = kept
    return copies
