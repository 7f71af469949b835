"""NanoBEIR and everything else in its layout: one hub dataset with the subsets corpus, queries and qrels.

Each of the three has a split per collection, such as ``NanoSciFact``. Knows the layout; must not know models.
Layout: https://huggingface.co/collections/sentence-transformers/nanobeir-datasets (50 queries of each BEIR collection).
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from retrieval_distill import hub
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError, nearest

REPOSITORY = "sentence-transformers/NanoBEIR-en"


def load(name: str, repository: str = REPOSITORY, cache: str | Path | None = None) -> Dataset:
    """One collection; its judgements are the split ``test``. Texts that are empty are left out.

    Args:
        name: Such as ``"SciFact"``, in any case, with or without ``Nano`` before it.
        repository: A dataset of the hub, or a folder in the same layout.
        cache: Where ``datasets`` keeps what it reads; ``None``: its own default.

    Raises:
        UserError: The repository cannot be read, or has no such collection.
    """
    with nullcontext() if Path(repository).is_dir() else hub.if_reachable():
        parts = {part: _read(repository, part, name, cache) for part in ("corpus", "queries", "qrels")}
    documents = [(row["_id"], row.get("title") or "", row["text"]) for row in parts["corpus"] if row["text"].strip()]
    known = {id_ for id_, _, _ in documents}
    judged = [(row["query-id"], doc_id, int(row.get("score", 1))) for row in parts["qrels"] for doc_id in _ids(row)]
    return Dataset.from_records(
        f"nano-{name.lower().removeprefix('nano')}",
        documents,
        [(row["_id"], row["text"]) for row in parts["queries"] if row["text"].strip()],
        {"test": [row for row in judged if row[1] in known]},
    )


def _ids(row: dict[str, Any]) -> list[str]:
    """The documents that a row of judgements names: one, or a list."""
    named = row["corpus-id"]
    return named if isinstance(named, list) else [named]


def _read(repository: str, part: str, name: str, cache: str | Path | None) -> list[dict[str, Any]]:
    import datasets

    directory = None if cache is None else str(cache)
    try:
        splits = datasets.get_dataset_split_names(repository, part, cache_dir=directory)
        found = {split.lower().removeprefix("nano"): split for split in splits}
        split = found.get(name.lower().removeprefix("nano"))
        if split is not None:
            return datasets.load_dataset(repository, part, split=split, cache_dir=directory).to_list()
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"nanobeir: {part} of {repository!r} could not be read ({reason})") from None
    raise UserError(f"nanobeir: {repository!r} has no {name!r}{nearest(name.lower(), found)}")
