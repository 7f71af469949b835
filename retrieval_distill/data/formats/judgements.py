"""Reads relevance judgements, and checks them against the existing ids.

Text files have three fields separated by tabs (BEIR: query-id, corpus-id, score) or four separated by tabs or spaces
(TREC and MS MARCO: query, iteration, document, grade); all table formats work too. A grade is a whole number in any
notation (``1``, ``1.0``, ``1e0``), and numeric ids become strings. Knows ids and grades;
must not know texts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.data.formats.lines import lines
from retrieval_distill.data.formats.names import KNOWN, Roles, text
from retrieval_distill.data.formats.reading import Reading, Row, RowError, Table
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

TEXT_ENDINGS = (".tsv", ".txt", ".qrels", ".trec")

LARGEST_GRADE = 2**31 - 1
"""Limit of the evaluation libraries."""

Judged = tuple[str, Any, Any, Any]
"""Place, query id, document id and grade, as in the file."""


def of_lines(path: Path, reading: Reading) -> Iterator[Judged]:
    """The judgements of a text file; a first line that ends in ``score`` is a header."""
    for number, (where, line) in enumerate(lines(path, reading), 1):
        if not line.strip() or (number == 1 and _is_header(line)):
            continue
        if fields := _fields(line):
            yield where, *fields
        else:
            detail = (
                f"expected query-id, corpus-id and a whole-number score, tab-separated: {line.strip()[:200]!r}"
                " (or TREC's query, iteration, document, grade)"
            )
            reading.bad.row(where, "malformed judgement", detail)


def begins(path: Path, reading: Reading) -> bool:
    """Whether a text file starts like judgements, unlike a README among them."""
    for _, line in lines(path, Reading.of(reading.options.model_copy(update={"on_bad": "skip"}))):
        if line.strip():
            try:
                return _is_header(line) or grade((_fields(line) or [""])[-1]) is not None
            except RowError:
                return False
    return False


def of_table(table: Table, reading: Reading) -> Iterator[Judged]:
    """The judgements of a table."""
    roles = Roles(reading.options, "qrels")
    for where, row in table.rows(reading):
        try:
            found = roles.values(row) if isinstance(row, dict) else {}
            query_id, doc_id, score = (found.get(role) for role in ("query", "document", "score"))
            if None in (query_id, doc_id, score):
                needed = ", ".join(names[0] for names in roles.names.values())
                detail = f"a judgement needs {needed}; it has {row!r:.200}; other names: columns qrels.query=NAME"
                raise RowError("malformed judgement", detail)
            yield where, query_id, doc_id, score
        except RowError as defect:
            reading.bad.row(where, defect.reason, defect.detail)


def of_rows(rows: Iterable[Row], reading: Reading) -> Iterator[Judged]:
    """Judgements from rows (place, (query id, document id, grade))."""
    for where, fields in rows:
        yield where, *fields


def collect(name: str, judged: Iterable[Judged], documents: Texts, queries: Texts, reading: Reading) -> Qrels:
    """Collect judgements into Qrels; unusable ones go to ``reading.bad``.

    Args:
        name: The source, for messages.
        judged: The judgements.
        documents: The existing documents.
        queries: The existing queries.
        reading: Determines the treatment of bad rows.
    """
    graded = list(_with_grades(judged, reading))
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


def _with_grades(judged: Iterable[Judged], reading: Reading) -> Iterator[tuple[str, str, str, int]]:
    for where, query_id, doc_id, score in judged:
        try:
            yield where, _id(query_id), _id(doc_id), grade(score)
        except RowError as defect:
            reading.bad.row(where, defect.reason, defect.detail)


def _id(value: Any) -> str:
    if (id_ := text(value)) is None:
        raise RowError("malformed judgement", f"an id must be a string or a whole number, not {value!r:.200}")
    return id_


def grade(score: Any) -> int:
    """A grade as an integer, from any notation.

    Raises:
        RowError: It is not a whole number, or too large for the evaluation libraries.
    """
    try:
        number = math.nan if isinstance(score, bool) or "_" in str(score) else float(score)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if abs(number) <= LARGEST_GRADE and number == int(number):
        return int(number)
    raise RowError("malformed judgement", f"a grade must be a whole number, not {score!r:.200}")


def _fields(line: str) -> tuple[str, str, str] | None:
    """Query id, document id and grade of a line of text; ``None``: the fields do not fit."""
    fields = line.rstrip("\r\n").split("\t")
    if len(fields) == 3:
        return fields[0], fields[1], fields[2]
    trec = fields if len(fields) == 4 else line.split()
    return (trec[0], trec[2], trec[3]) if len(trec) == 4 else None


def _is_header(line: str) -> bool:
    return line.split()[-1].casefold() in KNOWN["qrels"]["score"]


def _name_missing(name: str, missing: dict[str, list[tuple[str, str]]], reading: Reading) -> None:
    for what, cases in missing.items():
        if cases and reading.bad.on_bad == "refuse":
            shown = ", ".join(f"{id_!r} (line {where.rpartition(':')[2]})" for where, id_ in cases[:3])
            more = ", ..." if len(cases) > 3 else ""
            named = counted(len(cases), "judgement", "name")
            raise UserError(f"{name}: {named} a {what} that does not exist: {shown}{more}")
        for where, _ in cases:
            reading.bad.row(where, f"judgement of a {what} that does not exist")
