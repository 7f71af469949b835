"""``generate``: queries for a corpus that has none, made from its documents.

    ways, each resumable -> filters by text -> held-out queries left out -> round trip -> a split ``generated``

Knows the order of the steps; must not know how a way makes its queries.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill.config import GenerateConfig
from retrieval_distill.data import generated
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.errors import UserError
from retrieval_distill.generate import blocks, filters, round_trip, ways
from retrieval_distill.generate.round_trip import Judges
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import Manifest

VERSION = 2
"""Raised when the same documents and options would give other queries."""

PARTS = "parts"
"""Folder of the queries as they were made, which a killed attempt continues from."""

Save = Callable[[pd.DataFrame, Path], None]
"""(the queries, the stage's folder): writes them there. The queries' columns are ``query_id``, ``way``, ``doc_id``,
``query``, and ``title`` and ``text``: what training sees of the document, missing where it stands as it is."""


def generate(
    dataset: Dataset, folder: str | Path, config: GenerateConfig, seed: int, judges: Judges, save: Save
) -> Manifest:
    """Make queries into a folder; what is there is kept, and a killed attempt continues.

    Args:
        dataset: Its documents are asked; its own queries are left as they are.
        folder: Gets what ``save`` writes, and ``report.json``: counts of what was made and dropped, by way and reason.
        config: The recipe's section.
        seed: Draws documents, tokens and the queries that stay in their documents.
        judges: Who tells whether a query leads back to its document.
        save: Writes the result.

    Raises:
        UserError: The dataset has generated queries already, an option of a way is missing, or no query is left.
    """
    generated.refuse_generated(dataset)
    if judges.score is None and config.round_trip.asks_teacher:
        raise UserError("round_trip.teacher and round_trip.score need a teacher: name one")
    inputs = {
        "documents": dataset.documents.fingerprint,
        **({"metadata": dataset.metadata.fingerprint} if dataset.metadata else {}),
        "held_out": [dataset.queries.fingerprint, stages.fingerprint(dataset.qrels)],
        "generate": ways.identity(config),
        "asked": judges.identity if config.round_trip.asks else None,
        "seed": seed,
        "version": VERSION,
    }

    def work(out: Path) -> dict[str, Any]:
        made, dropped = _made(dataset, config, seed, out / PARTS), Ledger()
        kept = _kept(made, dataset, config, judges, dropped)
        save(kept, out)
        told = {"made": _by_way(made[made["query"].notna()]), "kept": _by_way(kept), "dropped": dropped.as_dict()}
        stages.write_json(out / "report.json", told)
        return {"documents": int(kept["doc_id"].nunique()), "queries": len(kept), **told}

    return stages.stage("generate", folder, inputs, work, scratch=(PARTS,))


def _made(dataset: Dataset, config: GenerateConfig, seed: int, folder: Path) -> pd.DataFrame:
    """Every way's queries with ``way`` and ``query_id``, such as ``titles:DOCUMENT#1``."""
    folder.mkdir(exist_ok=True)
    documents = dataset.documents.drawn(config.documents, seed)
    tables = []
    for name, rate in config.ways.items():
        made = blocks.make(name, ways.build(name, config, seed, documents), documents, rate, seed, folder)
        ids = [f"{name}:{doc}#{number}" for doc, number in zip(made["doc_id"], made["number"], strict=True)]
        tables.append(made.assign(way=name, query_id=ids))
    return pd.concat(tables, ignore_index=True)


def _kept(
    made: pd.DataFrame, dataset: Dataset, config: GenerateConfig, judges: Judges, dropped: Ledger
) -> pd.DataFrame:
    kept = filters.by_text(made, config, dropped)
    kept = filters.by_leakage(kept, dataset, config, dropped)
    kept = round_trip.check(kept, dataset, config.round_trip, judges, dropped)
    if kept.empty:
        raise UserError(f"generate: no query is left of {len(made)}; dropped were {dict(dropped.counts)}")
    if taken := dataset.queries.known(kept["query_id"]):
        raise UserError(f"dataset {dataset.name!r} has a query {min(taken)!r}, as a generated one would be called")
    return kept[["query_id", "way", "doc_id", "query", "title", "text"]].reset_index(drop=True)


def _by_way(made: pd.DataFrame) -> dict[str, int]:
    return {str(way): int(count) for way, count in made["way"].value_counts(sort=False).items()}
