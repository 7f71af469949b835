"""Reads precomputed scores from files, as a table or as a teacher that looks pairs up by their ids.

Layouts: a TREC run; Parquet with a row per pair, or per query with lists of documents and scores; JSON lines of the
MS MARCO hard negatives, ``{"qid", "pos": [{"pid", "ce-score"}], "neg": {SYSTEM: [{"pid", "ce-score"}]}}``.

Knows file layouts, ids and scores; must not know texts, hashes or stores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data import parquet_files, trec_run
from retrieval_distill.data.run import COLUMNS
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import text_files
from retrieval_distill.runtime.files import checksum
from retrieval_distill.scores.teacher_contract import Pairs, ScoreStream

DOCUMENT_COLUMNS = ("doc_id", "passage_id", "corpus_id", "document_id")
SCORE_COLUMNS = ("score", "ce_score", "ce-score")
"""Accepted names of Parquet columns, also with a plural ``s``."""

JSON_ENDINGS = (".jsonl", ".ndjson", ".json")
PICKLE_ENDINGS = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib")

PAIRS_PER_CHUNK = 1_000_000
"""Pairs of a JSON file held as Python objects at a time."""


def load(path: str | Path) -> PrecomputedTeacher:
    """A teacher that has only the scores of a file.

    Raises:
        UserError: The file cannot be read as scores; see ``read_scores``.
    """
    return PrecomputedTeacher(Path(path), read_scores(path))


class PrecomputedTeacher:
    """Looks scores up by query and document id."""

    def __init__(self, path: Path, frame: pd.DataFrame) -> None:
        self.fingerprint = fingerprint(path)
        self.description: dict[str, Any] = {"kind": "scores", "model": path.name, "pairs": len(frame)}
        self.frame = frame
        self._path = path

    def score(self, pairs: Pairs) -> ScoreStream:
        """The scores of the wanted pairs.

        Raises:
            UserError: Pairs are missing from the file; the scores of the others were yielded before.
        """
        positions = pairs.positions
        scores = self._scores(pairs, positions)
        known = ~np.isnan(scores)
        if known.any():
            yield positions[known], scores[known]
        if not known.all():
            raise UserError(self._absent([pairs.ids(position) for position in positions[~known]]))

    def lookup(self, pairs: Pairs) -> np.ndarray:
        """The file's score of every pair, wanted or not, float32 [pairs]; NaN where there is none."""
        return self._scores(pairs, np.arange(len(pairs)))

    def _scores(self, pairs: Pairs, positions: np.ndarray) -> np.ndarray:
        ids = [pairs.ids(position) for position in positions]
        wanted = pd.DataFrame(ids, columns=COLUMNS[:2], dtype="str")
        return wanted.merge(self.frame, how="left", on=COLUMNS[:2])["score"].to_numpy(np.float32)

    def _absent(self, absent: list[tuple[str, str]]) -> str:
        first = ", ".join(f"query {query!r} with document {document!r}" for query, document in absent[:3])
        return (
            f"{self._path}: {len(absent):,} of the candidates have no score in this file, first: {first}; "
            "restrict the candidates to pairs of the file, or score them with a model"
        )


def fingerprint(path: str | Path) -> str:
    """The first 32 hex digits of the SHA-256 of a file."""
    return checksum(Path(path))[:32]


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read scored pairs: ``query_id`` and ``doc_id`` (strings), ``score`` (float), every pair once.

    Args:
        path: ``.parquet``; ``.jsonl`` or ``.ndjson``, also with ``.gz``; any other suffix is read as a TREC run.

    Raises:
        UserError: The file is missing, empty, a pickle or not in a known layout, a score is not a finite number, or
            a pair has two different scores; the message names the line or the pair.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of scores")
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix in PICKLE_ENDINGS:
        raise UserError(
            f"{path}: pickled files are never read, since they can run code; use the Parquet or JSON lines version of "
            "these scores, or write one yourself with pandas: frame.to_parquet(...)"
        )
    if suffix == ".parquet":
        frame = _read_parquet(path).to_pandas()
    elif suffix in JSON_ENDINGS:
        frame = _read_json_lines(path).to_pandas()
    else:
        frame = trec_run.read(path)
    return _validate(path, frame)


def _validate(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """The distinct rows; refuses NaN, infinity and pairs with two scores."""
    if frame.empty:
        raise UserError(f"{path}: there are no scores in this file")
    with np.errstate(over="ignore"):  # the store keeps float32
        wrong = frame[~np.isfinite(frame["score"].to_numpy(np.float32))]
    if len(wrong):
        query, document, score = wrong.iloc[0]
        raise UserError(
            f"{path}: {counted(len(wrong), 'score', 'are')} NaN or infinite, first {score} for query {query!r} and "
            f"document {document!r}"
        )
    frame = frame.drop_duplicates(ignore_index=True)
    twice = frame[frame.duplicated(COLUMNS[:2], keep=False)]
    if len(twice):
        query, document, _ = twice.iloc[0]
        same = (twice["query_id"] == query) & (twice["doc_id"] == document)
        values = " and ".join(f"{score:g}" for score in twice["score"][same])
        raise UserError(f"{path}: query {query!r} and document {document!r} have different scores: {values}")
    return frame


def _read_parquet(path: Path) -> pa.Table:
    table = parquet_files.read_table(path)
    query = _column(path, table, ("query_id", "qid"))
    document, score = _column(path, table, DOCUMENT_COLUMNS), _column(path, table, SCORE_COLUMNS)
    if _is_list(document.type) != _is_list(score.type):
        raise UserError(f"{path}: documents and scores must both be lists (a row per query), or both be single values")
    if _is_list(document.type):
        unequal = pc.not_equal(pc.list_value_length(document), pc.list_value_length(score))
        if pc.any(unequal).as_py():
            row = pc.index(unequal, True).as_py() + 1
            raise UserError(f"{path}: row {row} has different numbers of scores and documents")
        query = query.take(pc.list_parent_indices(document))
        document, score = pc.list_flatten(document), pc.list_flatten(score)
    return _table(
        parquet_files.ids(path, "query", query),
        parquet_files.ids(path, "document", document),
        parquet_files.numbers(path, score),
    )


def _column(path: Path, table: pa.Table, names: tuple[str, ...]) -> pa.Array:
    for name in names:
        for candidate in (name, f"{name}s"):
            if candidate in table.column_names:
                column = table[candidate].combine_chunks()
                if column.null_count:
                    row = pc.index(column.is_null(), True).as_py() + 1
                    raise UserError(
                        f"{path}: column {candidate!r} has {counted(column.null_count, 'empty value')}, "
                        f"first in row {row}"
                    )
                return column
    raise UserError(f"{path}: no column {' or '.join(names)}; it has: {', '.join(table.column_names)}")


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _read_json_lines(path: Path) -> pa.Table:
    chunks: list[pa.Table] = []
    rows: list[tuple[str, str, float]] = []
    for number, line in enumerate(text_files.lines(path), 1):
        if line.strip():
            rows += _entries(line, f"{path}:{number}")
        if len(rows) >= PAIRS_PER_CHUNK:
            chunks.append(_rows(rows))
            rows = []
    return pa.concat_tables([*chunks, _rows(rows)])


def _entries(line: str, place: str) -> Iterator[tuple[str, str, float]]:
    """Query id, document id and score of every entry of one line."""
    try:
        record = json.loads(line)
        query = _id(record["qid"])
        for system in (record.get("pos", []), *record.get("neg", {}).values()):
            for entry in system:
                yield query, _id(entry["pid"]), float(entry["ce-score"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        wanted = '{"qid", "pos": [{"pid", "ce-score"}], "neg": {SYSTEM: [{"pid", "ce-score"}]}}'
        raise UserError(f"{place}: not scored entries like {wanted} ({type(error).__name__}: {error})") from None


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"an id must be a string or a whole number, not {value!r}")
    str(value).encode()  # UnicodeError (a ValueError) for a lone surrogate
    return str(value)


def _rows(rows: list[tuple[str, str, float]]) -> pa.Table:
    queries, documents, scores = zip(*rows, strict=True) if rows else ((), (), ())
    return _table(
        pa.array(queries, pa.large_string()), pa.array(documents, pa.large_string()), pa.array(scores, pa.float64())
    )


def _table(queries: pa.Array, documents: pa.Array, scores: pa.Array) -> pa.Table:
    return pa.table([queries, documents, scores], names=COLUMNS)
