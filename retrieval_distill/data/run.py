"""``Run``: the table of scored query-document pairs that everything between queries and documents uses.

BM25, dense search, fusion, teacher scoring, reranking and mining take or return it. Knows ids and scores;
must not know texts, models or judgements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from retrieval_distill.data import parquet_files, trec_run
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime.files import atomic

COLUMNS = ["query_id", "doc_id", "score"]

Column = Sequence[Any] | np.ndarray
"""A column of a table, in any form."""


@dataclass(frozen=True, eq=False)
class Run:
    """Scored query-document pairs; ``frame`` has columns ``query_id``, ``doc_id`` (strings) and ``score`` (float).

    Within a query, rows are sorted by descending score, ties by descending document id, as trec_eval evaluates them.
    Queries keep their original order.
    """

    frame: pd.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Counts from its creation, such as pairs ``scored``; neither saved nor passed on."""

    def with_facts(self, **facts: Any) -> Run:
        """The same Run with facts about its creation."""
        return replace(self, facts={**self.facts, **facts})

    @classmethod
    def from_columns(cls, query_ids: Column, doc_ids: Column, scores: Column) -> Run:
        """From three columns of equal length, in any order of rows."""
        frame = pd.DataFrame({"query_id": query_ids, "doc_id": doc_ids, "score": np.asarray(scores, np.float64)})
        return cls._ordered(frame)

    @classmethod
    def from_dict(cls, scores: Mapping[str, Mapping[str, float]]) -> Run:
        """From ``{query_id: {doc_id: score}}``, the shape that trec_eval and BEIR use."""
        rows = [(query, doc, score) for query, docs in scores.items() for doc, score in docs.items()]
        return cls._ordered(pd.DataFrame(rows, columns=COLUMNS))

    @classmethod
    def from_best(cls, query_ids: Sequence[str], doc_ids: np.ndarray, scores: np.ndarray) -> Run:
        """From the best documents of each query, ids and scores both [queries, depth]; ``None``: empty."""
        hit = doc_ids != np.array(None)
        ids = pd.Series(list(query_ids), dtype=str).array.take(np.nonzero(hit)[0])
        return cls.from_columns(ids, doc_ids[hit], scores[hit])

    @classmethod
    def concat(cls, runs: Iterable[Run]) -> Run:
        """Concatenate Runs of different queries."""
        return cls(pd.concat([run.frame for run in runs], ignore_index=True))

    @classmethod
    def _ordered(cls, frame: pd.DataFrame) -> Run:
        order = pd.factorize(frame["query_id"])[0]
        score = frame["score"].to_numpy(np.float64)
        rows = np.lexsort((-score, order))
        one, next_ = rows[:-1], rows[1:]
        same = (score[one] == score[next_]) | (np.isnan(score[one]) & np.isnan(score[next_]))
        equal = same & (order[one] == order[next_])
        if equal.any():
            places = np.union1d(np.flatnonzero(equal), np.flatnonzero(equal) + 1)
            tied = rows[places]  # comparing strings is slow, so only ties are sorted by id
            names = pd.factorize(frame["doc_id"].iloc[tied], sort=True)[0]
            rows[places] = tied[np.lexsort((-names, -score[tied], order[tied]))]
        if (rows[1:] < rows[:-1]).any():
            frame = frame.iloc[rows]
        return cls(frame[COLUMNS].reset_index(drop=True))

    def __repr__(self) -> str:
        return f"Run({counted(self.frame['query_id'].nunique(), 'query')}, {counted(len(self), 'document')})"

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[tuple[str, list[str], np.ndarray]]:
        """(query id, document ids, scores) of each query, best first."""
        query_ids, doc_ids, scores = (self.frame[column].to_numpy() for column in COLUMNS)
        starts = [0, *(np.flatnonzero(query_ids[1:] != query_ids[:-1]) + 1), len(self)]
        for start, end in pairwise(starts if len(self) else ()):
            yield str(query_ids[start]), doc_ids[start:end].tolist(), scores[start:end]

    @property
    def query_ids(self) -> list[str]:
        """The distinct query ids in order."""
        return self.frame["query_id"].unique().tolist()

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (query id, document id) in order."""
        return list(zip(self.frame["query_id"], self.frame["doc_id"], strict=True))

    def top(self, depth: int) -> Run:
        """The first ``depth`` documents of every query."""
        return Run(self.frame.groupby("query_id", sort=False).head(depth).reset_index(drop=True))

    def select(self, query_ids: Sequence[str]) -> Run:
        """Only the rows of these queries."""
        return Run(self.frame[self.frame["query_id"].isin(list(query_ids))].reset_index(drop=True))

    def with_scores(self, scores: Sequence[float] | np.ndarray) -> Run:
        """The same pairs with other scores (aligned with ``frame``), sorted anew."""
        return Run._ordered(self.frame.assign(score=np.asarray(scores, np.float64)))

    def as_dict(self) -> dict[str, dict[str, float]]:
        """``{query_id: {doc_id: score}}``."""
        return {query: dict(zip(docs, scores.tolist(), strict=True)) for query, docs, scores in self}

    def save(self, path: str | Path, tag: str = "retrieval-distill") -> None:
        """Write Parquet (``.parquet``) or a TREC run (any other suffix), atomically.

        Raises:
            UserError: The file cannot be written, or an id contains white space, which a TREC run cannot hold.
        """
        path = Path(path)
        if path.suffix != ".parquet":
            trec_run.write(self.frame, path, tag)
            return
        with atomic(path) as temporary:
            self.frame.to_parquet(temporary, index=False, write_page_checksum=True)

    @classmethod
    def load(cls, path: str | Path, missing_scores: bool = False) -> Run:
        """Read Parquet or a TREC run.

        Args:
            path: ``.parquet``; any other suffix is read as a TREC run.
            missing_scores: Whether pairs may lack a score (NaN), as ``training.missing_scores`` allows.

        Raises:
            UserError: The file is missing or damaged, a line is not a TREC run line, a score is NaN or infinite, or a
                pair occurs twice; the message names the line, or the row of the table.
        """
        path = Path(path)
        if not path.is_file():
            raise UserError(f"{path}: no such run file")
        frame = _read_parquet(path) if path.suffix == ".parquet" else trec_run.read(path)
        _refuse_ambiguous(path, frame, missing_scores)
        return cls._ordered(frame)


def _read_parquet(path: Path) -> pd.DataFrame:
    table = parquet_files.read_table(path)
    if not set(COLUMNS) <= set(table.column_names):
        raise UserError(f"{path}: a run needs the columns {', '.join(COLUMNS)}; it has {', '.join(table.column_names)}")
    query = parquet_files.ids(path, "query", table["query_id"]).to_pandas()
    document = parquet_files.ids(path, "document", table["doc_id"]).to_pandas()
    score = parquet_files.numbers(path, table["score"]).to_numpy()
    return pd.DataFrame({"query_id": query.astype(str), "doc_id": document.astype(str), "score": score})


def _refuse_ambiguous(path: Path, frame: pd.DataFrame, missing_scores: bool) -> None:
    """Refuse NaN and infinite scores and repeated pairs; rows are counted from 1, like lines."""
    score = frame["score"].to_numpy()
    wrong = np.isinf(score) if missing_scores else ~np.isfinite(score)
    twice = frame.duplicated(COLUMNS[:2]).to_numpy()
    for rows, fault in ((wrong, "the score"), (twice, "a second score,")):
        if rows.any():
            row = int(np.argmax(rows))
            query, document, value = frame.iloc[row]
            raise UserError(
                f"{path}:{row + 1}: query {query!r}, document {document!r} has {fault} {value:g} ({rows.sum():,} such "
                "rows); give each document of a query one finite number"
            )
