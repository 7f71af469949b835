"""Reads NanoBEIR and other datasets in its layout: one hub dataset with the subsets corpus, queries and qrels.

Each of the three has a split per collection, such as ``NanoSciFact``. Knows the layout; must not know models.
Layout: https://huggingface.co/collections/sentence-transformers/nanobeir-datasets (50 queries of each BEIR collection).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from retrieval_distill import hub
from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats.judgements import grade
from retrieval_distill.data.formats.names import text
from retrieval_distill.data.formats.reading import RowError
from retrieval_distill.errors import UserError, first_line, nearest

REPOSITORY = "sentence-transformers/NanoBEIR-en"


def load(name: str, repository: str = REPOSITORY, cache: str | Path | None = None) -> Dataset:
    """Load a collection; its judgements are the split ``test``. Empty texts are left out.

    Args:
        name: Name such as ``"SciFact"``, in any case, with or without the prefix ``Nano``.
        repository: A dataset of the hub, or a folder in the same layout.
        cache: Cache folder of ``datasets``; ``None``: its own default.

    Raises:
        UserError: The repository cannot be read, or has no such collection.
    """
    parts = {part: _read(repository, part, name, cache) for part in ("corpus", "queries", "qrels")}
    documents = _texts("corpus", parts["corpus"])
    known = {id_ for id_, _, _ in documents}
    judged = [judgement for number, row in enumerate(parts["qrels"], 1) for judgement in _judgements(number, row)]
    return Dataset.from_records(
        f"nano-{name.lower().removeprefix('nano')}",
        documents,
        [(id_, text) for id_, _, text in _texts("queries", parts["queries"])],
        {"test": [row for row in judged if row[1] in known]},
    )


def _texts(part: str, rows: list[dict[str, Any]]) -> list[Record]:
    """Id, title and text of every row that has a text."""
    found = []
    for number, row in enumerate(rows, 1):
        id_, title, body = text(row.get("_id")), text(row.get("title") or ""), text(row.get("text") or "")
        if not id_ or title is None or body is None:
            raise UserError(f"nanobeir: {part}:{number}: a row needs strings _id and text; it has {row!r:.200}")
        if body.strip():
            found.append((id_, title, body))
    return found


def _judgements(number: int, row: dict[str, Any]) -> list[tuple[str, str, int]]:
    """The judgements of a row, for one document or a list of them."""
    query_id, named = text(row.get("query-id")), row.get("corpus-id")
    doc_ids = [text(id_) for id_ in (named if isinstance(named, list) else [named])]
    try:
        found = grade(row.get("score", 1))
    except RowError as defect:
        raise UserError(f"nanobeir: qrels:{number}: {defect.detail}") from None
    if query_id is None or None in doc_ids:
        raise UserError(f"nanobeir: qrels:{number}: a row needs query-id and corpus-id; it has {row!r:.200}")
    return [(query_id, doc_id, found) for doc_id in doc_ids if doc_id is not None]


def _read(repository: str, part: str, name: str, cache: str | Path | None) -> list[dict[str, Any]]:
    import datasets

    directory = None if cache is None else str(cache)
    try:
        with hub.offline_if_unreachable():
            splits = datasets.get_dataset_split_names(repository, part, cache_dir=directory)
            found = {split.lower().removeprefix("nano"): split for split in splits}
            split = found.get(name.lower().removeprefix("nano"))
            if split is not None:
                return datasets.load_dataset(repository, part, split=split, cache_dir=directory).to_list()
    except Exception as error:
        raise UserError(f"nanobeir: {part} of {repository!r} could not be read ({first_line(error)})") from None
    raise UserError(f"nanobeir: {repository!r} has no {name!r}{nearest(name.lower(), found)}")
