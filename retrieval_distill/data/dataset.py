"""The dataset noun: documents, queries and judgements by split, all under the user's own ids.

Knows ids, texts and grades; must not know files of any format, models or retrieval.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data import columns
from retrieval_distill.data.columns import Record
from retrieval_distill.data.rows import RowIndex
from retrieval_distill.errors import UserError

Qrels = dict[str, dict[str, int]]
"""Query id -> document id -> grade (0 is judged not relevant; above 0 is relevant), as trec_eval reads them."""

MAPPED = "texts.arrow"
"""File of the table in a folder that :meth:`Texts.open` opens."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts under ids, in a fixed order, held in Arrow columns ``id``, ``title`` and ``text``.

    ``len``, ``in`` and iteration over ids work as for a dictionary; ``texts[id]`` is title and text joined. The table
    may be a memory map larger than memory; only ``ids`` and ``take()`` of everything hold more than a few batches.
    """

    table: pa.Table

    @classmethod
    def from_records(cls, records: Iterable[Record]) -> Texts:
        """From (id, title, text) triples; the title may be empty."""
        return cls(pa.Table.from_batches(columns.batches(records), columns.SCHEMA))

    @classmethod
    def open(cls, folder: Path) -> Texts:
        """The texts of a folder that holds their table (``MAPPED``) and what :meth:`keep` wrote."""
        texts = cls(columns.open_mapped(folder / MAPPED))
        # in place of what these would compute
        texts.__dict__["rows"] = RowIndex.open(texts.table["id"], folder)
        texts.__dict__["fingerprint"] = (folder / "fingerprint").read_text()
        return texts

    def keep(self, folder: Path) -> None:
        """Write what takes a pass over the whole table, ``rows`` and ``fingerprint``, beside it."""
        self.rows.save(folder)
        read = (columns.read_slices(folder / MAPPED, name) for name in columns.SCHEMA.names)
        (folder / "fingerprint").write_text(_fingerprint(read))

    @cached_property
    def ids(self) -> list[str]:
        """The ids in order."""
        return self.table["id"].to_pylist()

    @cached_property
    def rows(self) -> RowIndex:
        """Id -> row; ``rows.find(ids)`` answers for many at once."""
        return RowIndex.of(self.table["id"])

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __contains__(self, id_: object) -> bool:
        return id_ in self.rows

    def __getitem__(self, id_: str) -> str:
        return self.take([id_])[0]

    def take(self, ids: Sequence[str] | None = None) -> list[str]:
        """Title and text joined by a space (BEIR's convention), for these ids or (``None``) for all in order."""
        table = self.table if ids is None else self._gather(ids)
        pairs = zip(table["title"].to_pylist(), table["text"].to_pylist(), strict=True)
        return [f"{title} {text}".strip() for title, text in pairs]

    def record(self, id_: str) -> tuple[str, str]:
        """(title, text) of one id, apart."""
        row = self.rows[id_]
        return self.table["title"][row].as_py(), self.table["text"][row].as_py()

    def records(self) -> Iterator[Record]:
        """(id, title, text) of every text in order, read batch by batch."""
        for column in zip(*(columns.parts(self.table[name]) for name in columns.SCHEMA.names), strict=True):
            yield from zip(*column, strict=True)

    def select(self, ids: Sequence[str]) -> Texts:
        """The texts of these ids, in this order."""
        return Texts(self._gather(ids))

    def at(self, rows: np.ndarray) -> Texts:
        """The texts of these rows, in this order."""
        return Texts(columns.gather(self._chunks, rows) if len(rows) else self.table.slice(0, 0))

    def drawn(self, limit: int | None, seed: int) -> Texts:
        """As many of the texts, drawn by the seed, in their order; ``None``: all."""
        if limit is None or limit >= len(self):
            return self
        return self.at(np.sort(np.random.default_rng(seed).choice(len(self), limit, replace=False)))

    def _gather(self, ids: Sequence[str]) -> pa.Table:
        return self.at(self.rows.rows_of(ids)).table

    @cached_property
    def _chunks(self) -> list[pa.RecordBatch]:
        return self.table.to_batches()

    @cached_property
    def fingerprint(self) -> str:
        """Hash of every id and text in order: what a cache key needs to know of them."""
        return _fingerprint(map(columns.slices, self.table.columns))


def _fingerprint(table: Iterable[Iterable[pa.Array]]) -> str:
    digest = hashlib.sha256()
    for column in table:
        for part in column:
            digest.update(columns.joined(part, "\0"))
    return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named collection: ``documents``, ``queries`` and ``qrels[split][query_id][doc_id] = grade``.

    ``parents`` tells, for each of ``documents`` in order, the id of the document that it is a passage of (a column of
    strings); ``None``: the documents are whole. ``generated`` tells of generated queries how each was made: columns
    ``query_id``, ``way``, ``doc_id``, and ``title`` and ``text``, what training sees of that document (missing: the
    document as it stands); ``None``: there are none. ``sources`` tells of several datasets that were joined which rows
    of ``documents`` each has; empty: it is one. ``left_out`` tells what the reader left out as bad input:
    ``{reason: {"count", "first"}}``. ``metadata`` holds the further columns of documents, each document's as the text
    of a JSON object under its id (see :mod:`retrieval_distill.data.metadata`); ``None``: there are none.
    """

    name: str
    documents: Texts
    queries: Texts
    qrels: dict[str, Qrels] = field(default_factory=dict)
    parents: pa.ChunkedArray | None = None
    generated: pa.Table | None = None
    left_out: dict[str, dict[str, object]] = field(default_factory=dict)
    sources: dict[str, range] = field(default_factory=dict)
    metadata: Texts | None = None

    @classmethod
    def from_records(
        cls,
        name: str,
        documents: Iterable[tuple[str, str, str]],
        queries: Iterable[tuple[str, str]],
        qrels: dict[str, Iterable[tuple[str, str, int]]],
    ) -> Dataset:
        """From plain Python records: (id, title, text), (id, text) and per split (query id, document id, grade)."""
        by_split: dict[str, Qrels] = {}
        for split, rows in qrels.items():
            judged = by_split.setdefault(split, {})
            for query_id, doc_id, grade in rows:
                judged.setdefault(query_id, {})[doc_id] = grade
        return cls(name, Texts.from_records(documents), Texts.from_records((i, "", t) for i, t in queries), by_split)

    def split(self, name: str) -> Qrels:
        """The judgements of one split.

        Raises:
            UserError: The dataset has no such split.
        """
        if name not in self.qrels:
            raise UserError(f"dataset {self.name!r} has no split {name!r}; it has: {', '.join(self.qrels) or 'none'}")
        return self.qrels[name]

    def queries_of(self, split: str) -> Texts:
        """The judged queries of one split, in the order of the queries file."""
        judged = self.split(split)
        return self.queries.select([id_ for id_ in self.queries if id_ in judged])

    def parents_of(self, ids: Sequence[str]) -> list[str]:
        """The document that each id is a passage of; an id that is no passage stands for itself."""
        if self.parents is None or not len(ids):
            return list(ids)
        rows = self.documents.rows.find(ids)
        found = pc.take(self.parents, pa.array(rows, mask=rows < 0)).to_pylist()
        return [id_ if parent is None else parent for id_, parent in zip(ids, found, strict=True)]

    def in_passages(self, depth: int) -> int:
        """Passages to find so that ``depth`` documents of average length are among them; documents: ``depth``."""
        if self.parents is None:
            return depth
        return math.ceil(depth * len(self.documents) / pc.count_distinct(self.parents).as_py())

    def by_document(self, judged: Qrels) -> Qrels:
        """Judgements of passages as judgements of their documents: the highest grade of a document's passages."""
        pooled: Qrels = {}
        for query_id, grades in judged.items():
            best = pooled.setdefault(query_id, {})
            for document, grade in zip(self.parents_of(list(grades)), grades.values(), strict=True):
                best[document] = max(grade, best.get(document, grade))
        return pooled
