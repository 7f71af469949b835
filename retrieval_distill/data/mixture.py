"""Joins several datasets into one: ``ID`` of the dataset ``NAME`` becomes ``NAME/ID``.

Knows ids, texts and judgements; must not know recipes or how batches are drawn. Texts are not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, chain, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data.dataset import Dataset, Qrels, Texts

BETWEEN = "/"
"""Separates a dataset's name, which must not contain it, from an id."""


def join_datasets(parts: Mapping[str, Dataset]) -> Dataset:
    """Join datasets; ``sources`` of the result tells which documents belong to which.

    Args:
        parts: The datasets by name.
    """
    ends = accumulate((len(part.documents) for part in parts.values()), initial=0)
    splits = dict.fromkeys(chain.from_iterable(part.qrels for part in parts.values()))
    return Dataset(
        name=" + ".join(parts),
        documents=_texts({name: part.documents for name, part in parts.items()}),
        queries=_texts({name: part.queries for name, part in parts.items()}),
        qrels={split: _judged({name: part.qrels.get(split, {}) for name, part in parts.items()}) for split in splits},
        parents=_parents(parts),
        generated=_generated(parts),
        metadata=_metadata(parts),
        left_out={f"{name}: {reason}": case for name, part in parts.items() for reason, case in part.left_out.items()},
        sources={name: range(*bounds) for name, bounds in zip(parts, pairwise(ends), strict=True)},
    )


def source_of(id_: str) -> str:
    """The name of the dataset that an id of a mixture comes from."""
    return id_.partition(BETWEEN)[0]


def by_source(dataset: Dataset, queries: Texts) -> Iterator[tuple[Texts, np.ndarray | None]]:
    """The queries of each dataset of a mixture, and a mask of its documents, bool [documents].

    All queries, and ``None``, if the dataset is not a mixture.
    """
    if not dataset.sources:
        yield queries, None
    names = np.array([source_of(id_) for id_ in queries]) if dataset.sources else np.zeros(0)
    for name, rows in dataset.sources.items():
        allowed = np.zeros(len(dataset.documents), bool)
        allowed[rows.start : rows.stop] = True
        if (names == name).any():
            yield queries.at(np.flatnonzero(names == name)), allowed


def _texts(parts: Mapping[str, Texts]) -> Texts:
    tables = [texts.table.set_column(0, "id", _under(name, texts.table["id"])) for name, texts in parts.items()]
    return Texts(pa.concat_tables(tables))


def _judged(parts: Mapping[str, Qrels]) -> Qrels:
    return {
        f"{name}{BETWEEN}{query_id}": {f"{name}{BETWEEN}{doc_id}": grade for doc_id, grade in grades.items()}
        for name, judged in parts.items()
        for query_id, grades in judged.items()
    }


def _parents(parts: Mapping[str, Dataset]) -> pa.ChunkedArray | None:
    """The document of every passage; documents without passages are their own, if another dataset has passages."""
    if all(part.parents is None for part in parts.values()):
        return None
    own = {name: part.documents.table["id"] if part.parents is None else part.parents for name, part in parts.items()}
    return pa.chunked_array([chunk for name, ids in own.items() for chunk in _under(name, ids).chunks])


def _generated(parts: Mapping[str, Dataset]) -> pa.Table | None:
    """How each generated query was made."""
    tables = []
    for name, part in parts.items():
        if (marks := part.generated) is not None:
            for column in ("query_id", "doc_id"):
                ids = _under(name, marks[column].cast(pa.large_string()))
                marks = marks.set_column(marks.column_names.index(column), column, ids)
            tables.append(marks)
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def _metadata(parts: Mapping[str, Dataset]) -> Texts | None:
    """The further columns of documents."""
    own = {name: part.metadata for name, part in parts.items() if part.metadata is not None}
    return _texts(own) if own else None


def _under(name: str, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    prefix, nothing = (pa.scalar(value, pa.large_string()) for value in (f"{name}{BETWEEN}", ""))
    chunks = [pc.binary_join_element_wise(prefix, chunk, nothing) for chunk in ids.chunks]
    return pa.chunked_array(chunks, pa.large_string())
