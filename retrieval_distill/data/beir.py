"""Datasets in BEIR layout: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.

Knows the layout and says what is wrong with a file in terms of its path and line; must not know models.
Layout: Thakur et al., "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation", NeurIPS 2021.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")


def load(folder: str | Path) -> Dataset:
    """Read a folder in BEIR layout.

    Raises:
        UserError: A file is missing, a line is malformed, an id is not a string, empty or a duplicate, a passage
            or query is empty, the corpus is empty, or judgements name ids that do not exist.
    """
    folder = Path(folder)
    for part in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / part).is_file():
            raise UserError(
                f"{folder}: no {part} there; a dataset folder holds corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv"
            )
    documents = Texts.from_records(_records(folder / "corpus.jsonl", "passage"))
    if not len(documents):
        raise UserError(f"{folder / 'corpus.jsonl'}: the corpus is empty")
    queries = Texts.from_records(_records(folder / "queries.jsonl", "query"))
    qrels = {path.stem: _qrels(path, documents, queries) for path in sorted((folder / "qrels").glob("*.tsv"))}
    unjudged = [id_ for id_ in queries if not any(id_ in judged for judged in qrels.values())]
    if unjudged:
        logger.warning(
            "%s: %d queries have no judgement and are not used, first %r", folder, len(unjudged), unjudged[0]
        )
    return Dataset(folder.name, documents, queries, qrels)


def save(dataset: Dataset, folder: str | Path) -> None:
    """Write a dataset in BEIR layout."""
    folder = Path(folder)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as out:
        for id_ in dataset.documents:
            title, text = dataset.documents.record(id_)
            out.write(json.dumps({"_id": id_, "title": title, "text": text}, ensure_ascii=False) + "\n")
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as out:
        for id_ in dataset.queries:
            out.write(json.dumps({"_id": id_, "text": dataset.queries.record(id_)[1]}, ensure_ascii=False) + "\n")
    for split, judged in dataset.qrels.items():
        with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8") as out:
            out.write("query-id\tcorpus-id\tscore\n")
            for query_id, docs in judged.items():
                out.writelines(f"{query_id}\t{doc_id}\t{grade}\n" for doc_id, grade in docs.items())


def _records(path: Path, what: str) -> Iterator[tuple[str, str, str]]:
    """(id, title, text) of each line, checked."""
    seen: dict[str, int] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: not valid JSON ({error.msg} at column {error.colno})") from None
            id_, title, text = _fields(record, f"{path}:{number}", what)
            if id_ in seen:
                raise UserError(f"{path}:{number}: duplicate id {id_!r}, first used on line {seen[id_]}")
            seen[id_] = number
            yield id_, title, text


def _fields(record: Any, where: str, what: str) -> tuple[str, str, str]:
    if not isinstance(record, dict) or "_id" not in record or "text" not in record:
        raise UserError(f'{where}: a {what} needs the fields "_id" and "text"')
    id_, title, text = record["_id"], record.get("title") or "", record["text"]
    if not isinstance(id_, str) or not id_:
        raise UserError(f'{where}: "_id" must be a non-empty string, not {id_!r}; put it in quotes')
    if not isinstance(text, str) or not isinstance(title, str):
        raise UserError(f'{where}: "text" and "title" must be strings')
    if not f"{title}{text}".strip():
        raise UserError(f"{where}: the {what} {id_!r} is empty; remove it or give it text")
    return id_, title, text


def _qrels(path: Path, documents: Texts, queries: Texts) -> Qrels:
    """One split's judgements, checked against the ids that exist."""
    qrels: Qrels = {}
    unknown: dict[str, list[str]] = {"query": [], "document": []}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            fields = line.rstrip("\n").split("\t")
            if (number == 1 and fields[-1] == "score") or not line.strip():
                continue
            try:
                query_id, doc_id, grade = fields[0], fields[1], int(fields[2])
            except (IndexError, ValueError):
                raise UserError(
                    f"{path}:{number}: expected query-id, corpus-id and a whole-number score, tab-separated: "
                    f"{line.strip()!r}"
                ) from None
            if query_id not in queries:
                unknown["query"].append(f"{query_id!r} (line {number})")
            if doc_id not in documents:
                unknown["document"].append(f"{doc_id!r} (line {number})")
            qrels.setdefault(query_id, {})[doc_id] = grade
    for what, ids in unknown.items():
        if ids:
            raise UserError(
                f"{path}: {len(ids)} judgements name a {what} that does not exist: "
                f"{', '.join(ids[:3])}{', ...' if len(ids) > 3 else ''}"
            )
    return qrels
