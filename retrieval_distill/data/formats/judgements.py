"""Judgements: who found what relevant, checked against the ids that exist.

Text files have three fields separated by tabs (BEIR: query-id, corpus-id, score) or four separated by tabs or spaces
(TREC and MS MARCO: query, iteration, document, grade); any table format will do too. Knows ids and grades; must not
know texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.formats.contract import Reading, Row, RowError, Table
from retrieval_distill.data.formats.lines import lines
from retrieval_distill.data.formats.names import columns, value
from retrieval_distill.errors import UserError

TEXT_ENDINGS = (".tsv", ".txt", ".qrels", ".trec")

Judged = tuple[str, Any, Any, Any]
"""Where, query id, document id and grade, as the file has them."""


def of_lines(path: Path, reading: Reading) -> Iterator[Judged]:
    """The judgements of a text file; a first line that ends in ``score`` is a header."""
    for number, (where, line) in enumerate(lines(path, reading), 1):
        fields = line.rstrip("\r\n").split("\t")
        if (number == 1 and fields[-1] == "score") or not line.strip():
            continue
        trec = fields if len(fields) == 4 else line.split()
        if len(fields) == 3:
            yield where, fields[0], fields[1], fields[2]
        elif len(trec) == 4:
            yield where, trec[0], trec[2], trec[3]
        else:
            detail = (
                f"expected query-id, corpus-id and a whole-number score, tab-separated: {line.strip()[:200]!r}"
                " (or TREC's query, iteration, document, grade)"
            )
            reading.bad.row(where, "malformed judgement", detail)


def of_table(table: Table, reading: Reading) -> Iterator[Judged]:
    """The judgements of a table."""
    names = columns(reading.options, "qrels")
    for where, row in table.rows(reading):
        found = row if isinstance(row, dict) else {}
        query_id, doc_id, score = (value(found, names[role]) for role in ("query", "document", "score"))
        if None not in (query_id, doc_id, score):
            yield where, query_id, doc_id, score
            continue
        needed = ", ".join(names[role][0] for role in names)
        detail = f"a judgement needs {needed}; it has {row!r:.200}; other names: columns qrels.query=NAME"
        reading.bad.row(where, "malformed judgement", detail)


def of_rows(rows: Iterable[Row], reading: Reading) -> Iterator[Judged]:
    """Judgements that are already (where, (query id, document id, grade))."""
    for where, fields in rows:
        yield where, *fields


def collect(name: str, judged: Iterable[Judged], documents: Texts, queries: Texts, reading: Reading) -> Qrels:
    """Judgements as Qrels; those that cannot be used go to ``reading.bad``.

    Args:
        name: The source, for messages.
        judged: The judgements.
        documents: The documents that exist.
        queries: The queries that exist.
        reading: Tells what to do with bad rows.
    """
    graded = list(_graded(judged, reading))
    missing: dict[str, list[tuple[str, str]]] = {"query": [], "document": []}
    known_queries = queries.rows.find([query_id for _, query_id, _, _ in graded]) >= 0
    known_documents = documents.rows.find([doc_id for _, _, doc_id, _ in graded]) >= 0
    qrels: Qrels = {}
    for (where, query_id, doc_id, grade), query, document in zip(graded, known_queries, known_documents, strict=True):
        if not query:
            missing["query"].append((where, query_id))
        if not document:
            missing["document"].append((where, doc_id))
        if query and document:
            before = qrels.setdefault(query_id, {}).setdefault(doc_id, grade)
            if before != grade:
                detail = f"{query_id!r} and {doc_id!r} are judged twice, {before} and {grade}"
                reading.bad.row(where, "judged twice", detail)
    _name_missing(name, missing, reading)
    return qrels


def _graded(judged: Iterable[Judged], reading: Reading) -> Iterator[tuple[str, str, str, int]]:
    for where, query_id, doc_id, score in judged:
        try:
            yield where, str(query_id), str(doc_id), _grade(score)
        except RowError as defect:
            reading.bad.row(where, defect.reason, defect.detail)


def _grade(score: Any) -> int:
    try:
        grade = int(score)
        if grade == float(score):
            return grade
    except (TypeError, ValueError):
        pass
    detail = f"expected query-id, corpus-id and a whole-number score, not {score!r}"
    raise RowError("malformed judgement", detail)


def _name_missing(name: str, missing: dict[str, list[tuple[str, str]]], reading: Reading) -> None:
    for what, cases in missing.items():
        if cases and reading.bad.on_bad == "refuse":
            shown = ", ".join(f"{id_!r} (line {where.rpartition(':')[2]})" for where, id_ in cases[:3])
            more = ", ..." if len(cases) > 3 else ""
            raise UserError(f"{name}: {len(cases)} judgements name a {what} that does not exist: {shown}{more}")
        for where, _ in cases:
            reading.bad.row(where, f"judgement of a {what} that does not exist")
