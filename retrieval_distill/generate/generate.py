"""``generate``: generates queries from documents, for a corpus that has none.

    ways, each resumable -> filters by text -> without held-out queries -> round trip -> split ``generated``

Knows the order of the steps; must not know how a way generates its queries.
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
from retrieval_distill.generate import blocks, query_filters, round_trip, ways
from retrieval_distill.generate.round_trip import Judges
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import Manifest

VERSION = 2
"""Increased whenever the same documents and options give other queries."""

PARTS = "parts"
"""Folder of the raw queries, from which a killed attempt continues."""

Save = Callable[[pd.DataFrame, Path], None]
"""Writes the queries into the stage's folder. Columns: ``query_id``, ``way``, ``doc_id``, ``query``, and ``title`` and
``text``: the document as training sees it, missing if unchanged."""


def generate(
    dataset: Dataset, folder: str | Path, config: GenerateConfig, seed: int, judges: Judges, save: Save
) -> Manifest:
    """Generate queries into a folder; finished queries are kept, and a killed attempt continues.

    Args:
        dataset: The documents; the dataset's own queries stay unchanged.
        folder: Gets what ``save`` writes, and ``report.json``: counts of generated and dropped queries, by way and
            reason.
        config: The recipe's section.
        seed: Random seed for documents, tokens, and which queries stay in their documents.
        judges: The retriever and teacher of the round trip.
        save: Writes the result.

    Raises:
        UserError: The dataset already has generated queries, an option of a way is missing, or no query is left.
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
        made, dropped = _generate_all(dataset, config, seed, out / PARTS), Ledger()
        kept = _filter(made, dataset, config, judges, dropped)
        save(kept, out)
        counts = {"made": _by_way(made[made["query"].notna()]), "kept": _by_way(kept), "dropped": dropped.as_dict()}
        stages.write_json(out / "report.json", counts)
        return {"documents": int(kept["doc_id"].nunique()), "queries": len(kept), **counts}

    return stages.stage("generate", folder, inputs, work, scratch=(PARTS,))


def _generate_all(dataset: Dataset, config: GenerateConfig, seed: int, folder: Path) -> pd.DataFrame:
    """Every way's queries with ``way`` and ``query_id``, such as ``titles:DOCUMENT#1``."""
    folder.mkdir(exist_ok=True)
    documents = dataset.documents.sample(config.documents, seed)
    tables = []
    for name, rate in config.ways.items():
        made = blocks.generate_blocks(name, ways.build(name, config, seed, documents), documents, rate, seed, folder)
        ids = [f"{name}:{doc}#{number}" for doc, number in zip(made["doc_id"], made["number"], strict=True)]
        tables.append(made.assign(way=name, query_id=ids))
    return pd.concat(tables, ignore_index=True)


def _filter(
    made: pd.DataFrame, dataset: Dataset, config: GenerateConfig, judges: Judges, dropped: Ledger
) -> pd.DataFrame:
    kept = query_filters.by_text(made, config, dropped)
    kept = query_filters.by_leakage(kept, dataset, config, dropped)
    kept = round_trip.keep_round_trips(kept, dataset, config.round_trip, judges, dropped)
    if kept.empty:
        lost = ", ".join(f"{count:,} x {reason}" for reason, count in dropped.counts.items())
        raise UserError(f"generate: no query is left; dropped: {lost}; {_way_out(config)}")
    if taken := dataset.queries.intersection(kept["query_id"]):
        raise UserError(
            f"dataset {dataset.name!r} already has a query {min(taken)!r}, the id of a generated one; rename it"
        )
    return kept[["query_id", "way", "doc_id", "query", "title", "text"]].reset_index(drop=True)


def _way_out(config: GenerateConfig) -> str:
    """What may help where no query is left: a way that takes any text, else other limits."""
    if "sentences" in config.ways:
        return "longer documents, a lower min_words or a more lenient round_trip would leave some"
    return "the way sentences makes queries of any document of two sentences"


def _by_way(made: pd.DataFrame) -> dict[str, int]:
    return {str(way): int(count) for way, count in made["way"].value_counts(sort=False).items()}
