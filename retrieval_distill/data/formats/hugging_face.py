"""Hugging Face datasets: a folder that ``save_to_disk`` wrote, or ``hf:NAME`` on the hub.

A source with several tables is a dataset if they are called ``corpus``, ``queries`` and, for judgements, like their
split. Knows the library ``datasets``; must not know what columns mean.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from retrieval_distill.data import metadata
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats import hub_tables, sidecars, tables
from retrieval_distill.data.formats.hub_tables import PREFIX
from retrieval_distill.data.formats.reading import Format, Reading
from retrieval_distill.errors import UserError

JUDGED = pa.schema([("query_id", pa.string()), ("doc_id", pa.string()), ("score", pa.int64())])
"""Schema of a split's judgements when written."""


def read(source: str, reading: Reading) -> Dataset:
    """A dataset of the tables ``corpus``, ``queries`` and one per split; only documents from a single table."""
    found, name = hub_tables.load(source), Path(source.removeprefix(PREFIX).partition("#")[0]).name
    if len(found) == 1:
        return tables.dataset(name, next(iter(found.values())), None, {}, reading)
    if "corpus" not in found:
        raise UserError(f"{source} has the tables {', '.join(found)}, but none called corpus; name one of them")
    dataset = tables.dataset(name, found.pop("corpus"), found.pop("queries", None), found, reading)
    return dataset if source.startswith(PREFIX) else sidecars.read(Path(source), dataset)


def write(found: Dataset, folder: Path) -> None:
    """Write a folder for ``datasets.load_from_disk``, with the tables that :func:`read` knows.

    Raises:
        UserError: A split is called ``corpus`` or ``queries``.
    """
    import datasets

    if taken := {"corpus", "queries"} & set(found.qrels):
        raise UserError(f"{folder}: a split called {taken.pop()!r} collides with the table of that name; rename it")
    parts = {"corpus": metadata.table(found), "queries": found.queries.table.drop_columns("title")}
    for split, judged in found.qrels.items():
        rows = [dict(zip(JUDGED.names, row, strict=True)) for row in tables.judgement_rows(judged)]
        parts[split] = pa.Table.from_pylist(rows, JUDGED)
    shards = {name: 1 for name, part in parts.items() if not len(part)}  # the default, 0, cannot be loaded again
    written = datasets.DatasetDict({name: datasets.Dataset(part) for name, part in parts.items()})
    written.save_to_disk(str(folder), num_shards=shards)
    sidecars.write(found, folder)


HUGGING_FACE = Format("hugging-face", hub_tables.recognises, read, lambda dataset, out, _: write(dataset, out))
