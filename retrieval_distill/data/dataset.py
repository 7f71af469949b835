"""``Dataset``: documents, queries and judgements by split, all under the user's own ids.

Knows ids, texts and grades; must not know files of any format, models or retrieval.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data import columns
from retrieval_distill.data.columns import Record, values_at
from retrieval_distill.data.rows import RowIndex
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime.manifests import Manifest

Qrels = dict[str, dict[str, int]]
"""Query id -> document id -> grade (0: judged not relevant; above 0: relevant), as in trec_eval."""

AnyTexts: TypeAlias = "Texts | Mapping[Any, str | tuple[str, str] | Mapping[str, str]] | Sequence[str]"
"""What :meth:`Texts.of` accepts."""

MAPPED = "texts.arrow"
"""File of the table in a folder that :meth:`Texts.open` opens."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Texts by id, in a fixed order, stored in Arrow columns ``id``, ``title`` and ``text``.

    ``len``, ``in`` and iteration over ids work as for a dictionary; ``texts[id]`` is title and text joined. The table
    may be a memory map larger than memory; only ``ids`` and ``take()`` of all texts load more than a few batches.
    """

    table: pa.Table

    @classmethod
    def from_records(cls, records: Iterable[Record]) -> Texts:
        """From (id, title, text) triples; the title may be empty."""
        return cls(pa.Table.from_batches(columns.batches(records), columns.SCHEMA))

    @classmethod
    def of(cls, texts: AnyTexts) -> Texts:
        """Convert Python values to ``Texts``, for every verb that takes texts.

        Args:
            texts: A dictionary from ids to a text, (title, text) or ``{"title": ..., "text": ...}``; a list of texts,
                whose ids are their positions ``"0"``, ``"1"`` and so on; or ``Texts``, which are returned unchanged.

        Raises:
            UserError: It is none of these.
        """
        if isinstance(texts, Texts):
            return texts
        if isinstance(texts, str) or not isinstance(texts, Mapping | Sequence):
            raise UserError(f"texts must be a list, or a dictionary from ids to texts, not {_short(texts)}")
        found = texts.items() if isinstance(texts, Mapping) else enumerate(texts)
        records = [(str(id_), *_title_and_text(id_, text)) for id_, text in found]
        if len({id_ for id_, _, _ in records}) < len(records):
            raise UserError("two texts have the same id, once as a number and once as a string")
        return cls.from_records(records)

    @classmethod
    def open(cls, folder: Path) -> Texts:
        """Open the texts of a folder that holds their table (``MAPPED``) and the files of :meth:`keep`."""
        texts = cls(columns.open_mapped(folder / MAPPED))
        # instead of computing them
        texts.__dict__["rows"] = RowIndex.open(texts.table["id"], folder)
        texts.__dict__["fingerprint"] = (folder / "fingerprint").read_text()
        return texts

    def keep(self, folder: Path) -> None:
        """Save ``rows`` and ``fingerprint``, which need a pass over the whole table, next to it."""
        self.rows.save(folder)
        read = (columns.read_slices(folder / MAPPED, name) for name in columns.SCHEMA.names)
        (folder / "fingerprint").write_text(_fingerprint(read))

    @cached_property
    def ids(self) -> list[str]:
        """The ids in order."""
        return self.table["id"].to_pylist()

    @cached_property
    def rows(self) -> RowIndex:
        """Id -> row; ``rows.find(ids)`` looks up many at once."""
        return RowIndex.of(self.table["id"])

    def __repr__(self) -> str:
        return f"Texts({len(self):,})"

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __contains__(self, id_: object) -> bool:
        return id_ in self.rows

    def intersection(self, ids: Iterable[str]) -> set[str]:
        """Those of the ids that exist."""
        distinct = list(dict.fromkeys(ids))
        return {id_ for id_, row in zip(distinct, self.rows.find(distinct), strict=True) if row >= 0}

    def __getitem__(self, id_: str) -> str:
        return self.take([id_])[0]

    def take(self, ids: Sequence[str] | None = None) -> list[str]:
        """Title and text joined by a space (BEIR's convention), for these ids or (``None``) for all in order."""
        table = self.table if ids is None else self._gather(ids)
        pairs = zip(table["title"].to_pylist(), table["text"].to_pylist(), strict=True)
        return [f"{title} {text}".strip() for title, text in pairs]

    def record(self, id_: str) -> tuple[str, str]:
        """(title, text) of one id."""
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

    def sample(self, limit: int | None, seed: int) -> Texts:
        """A random sample of at most ``limit`` texts, in their order; ``None``: all."""
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
        """Hash of all ids and texts in order, for cache keys."""
        return _fingerprint(map(columns.slices, self.table.columns))


def _title_and_text(id_: Any, text: Any) -> tuple[str, str]:
    pair = (text.get("title") or "", text.get("text")) if isinstance(text, Mapping) else text
    pair = ("", pair) if isinstance(pair, str) else pair
    if isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(part, str) for part in pair):
        return pair[0], pair[1]
    raise UserError(f"text {id_!r}: expected a string, (title, text) or a dictionary of both, not {_short(text)}")


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def _fingerprint(table: Iterable[Iterable[pa.Array]]) -> str:
    digest = hashlib.sha256()
    for column in table:
        for part in column:
            digest.update(columns.joined_bytes(part, "\0"))
    return digest.hexdigest()


class Judgements(dict[str, Qrels]):
    """Judgements by split: ``qrels("test")`` or ``qrels["test"]`` are those of one split."""

    def __init__(self, by_split: Mapping[str, Qrels], dataset: str) -> None:
        super().__init__(by_split)
        self.dataset = dataset

    def __call__(self, split: str | None) -> Qrels:
        """The judgements of one split.

        Raises:
            UserError: The dataset has no such split.
        """
        if split not in self:
            splits = ", ".join(self) or "none"
            raise UserError(f"dataset {self.dataset!r} has no split {split!r}; it has: {splits}")
        return self[str(split)]


class Queries(Texts):
    """All queries of a dataset; ``queries("test")`` are the judged ones of one split, in the same order."""

    qrels: Judgements

    @classmethod
    def of_dataset(cls, texts: Texts, qrels: Judgements) -> Queries:
        """The same texts, with the splits."""
        queries = cls(texts.table)
        queries.__dict__.update(texts.__dict__, qrels=qrels)  # including cached values
        return queries

    def __call__(self, split: str | None) -> Texts:
        """The judged queries of one split.

        Raises:
            UserError: The dataset has no such split.
        """
        judged = self.qrels(split)
        return self.select([id_ for id_ in self if id_ in judged])


@dataclass(frozen=True, eq=False, init=False)
class Dataset:
    """A named collection: ``documents``, ``queries`` and ``qrels[split][query_id][doc_id] = grade``.

    ``queries(split)`` and ``qrels(split)`` are those of one split.

    ``parents``: if ``documents`` are passages, the id of each one's document, a column of strings; else ``None``.
    ``generated``: how each generated query was made, columns ``query_id``, ``way``, ``doc_id``, and ``title`` and
    ``text`` of the document as training sees it (missing: unchanged); ``None``: there are none. ``sources``: in a
    mixture, the rows of ``documents`` of each dataset; otherwise empty. ``left_out``: what the reader left out as bad
    input, ``{reason: {"count", "first"}}``. ``metadata``: further columns of documents, as the text of a JSON object
    under each id (see :mod:`retrieval_distill.data.metadata`); ``None``: there are none.
    """

    name: str
    documents: Texts
    queries: Queries
    qrels: Judgements
    parents: pa.ChunkedArray | None
    generated: pa.Table | None
    left_out: dict[str, dict[str, object]]
    sources: dict[str, range]
    metadata: Texts | None
    manifest: Manifest
    """The manifest of the stage that just made it; empty for a dataset that was read."""

    def __init__(
        self,
        name: str,
        documents: Texts,
        queries: Texts,
        qrels: Mapping[str, Qrels] | None = None,
        parents: pa.ChunkedArray | None = None,
        generated: pa.Table | None = None,
        left_out: dict[str, dict[str, object]] | None = None,
        sources: dict[str, range] | None = None,
        metadata: Texts | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        judgements = Judgements(qrels or {}, name)
        values = {
            "name": name,
            "documents": documents,
            "queries": Queries.of_dataset(queries, judgements),
            "qrels": judgements,
            "parents": parents,
            "generated": generated,
            "left_out": left_out or {},
            "sources": sources or {},
            "metadata": metadata,
            "manifest": manifest or Manifest(),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def replace(self, **fields: Any) -> Dataset:
        """The same dataset with other values of some fields."""
        return dataclasses.replace(self, **fields)

    def __repr__(self) -> str:
        judged = ", ".join(f"{split} {len(queries):,}" for split, queries in self.qrels.items())
        held = f"{counted(len(self.documents), 'document')}, {counted(len(self.queries), 'query')}"
        counts = f"{held}; judged: {judged or 'none'}"
        return f"Dataset({self.name!r}: {counts})"

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

    def parents_of(self, ids: Sequence[str]) -> list[str]:
        """The document of each passage id; other ids are returned unchanged."""
        if self.parents is None or not len(ids):
            return list(ids)
        rows = self.documents.rows.find(ids)
        found = values_at(self.parents, rows)
        return [id_ if parent is None else parent for id_, parent in zip(ids, found, strict=True)]

    def in_passages(self, depth: int) -> int:
        """Number of passages that contain ``depth`` documents on average; ``depth`` if documents are not passages."""
        if self.parents is None:
            return depth
        return math.ceil(depth * len(self.documents) / self.size)

    @cached_property
    def size(self) -> int:
        """Number of documents; one with passages counts once."""
        return len(self.documents) if self.parents is None else int(pc.count_distinct(self.parents).as_py())

    def by_document(self, judged: Qrels) -> Qrels:
        """Judgements of passages as judgements of their documents: the highest grade of a document's passages."""
        pooled: Qrels = {}
        for query_id, grades in judged.items():
            best = pooled.setdefault(query_id, {})
            for document, grade in zip(self.parents_of(list(grades)), grades.values(), strict=True):
                best[document] = max(grade, best.get(document, grade))
        return pooled
