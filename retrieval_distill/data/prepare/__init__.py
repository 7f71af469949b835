"""``prepare``: cleans a corpus for training and evaluation.

    normalise -> drop by length and language -> merge copies -> transfer judgements
              -> keep held-out data out of training -> split long documents into passages -> report

Knows the order of the steps; must not know their details.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retrieval_distill import models
from retrieval_distill.config import PrepareConfig
from retrieval_distill.config.prepare import WITHOUT_RECIPE
from retrieval_distill.data import columns
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.formats import beir
from retrieval_distill.data.prepare import (
    data_statistics,
    duplicates,
    judgement_transfer,
    leakage,
    normalise,
    text_filters,
)
from retrieval_distill.data.prepare.data_report_file import Case, DataReport
from retrieval_distill.data.prepare.passages import split_into_passages
from retrieval_distill.data.prepare.segment import Segmenter
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import Manifest

VERSION = 2
"""Increased whenever the same data and options give another result."""


def prepare(dataset: Dataset, folder: str | Path, config: PrepareConfig) -> Manifest:
    """Clean a dataset into a folder in BEIR layout, with its data report; skipped if finished.

    Args:
        dataset: The dataset; it is not changed.
        folder: Gets ``corpus.jsonl``, ``queries.jsonl``, ``qrels/``, ``report.json`` and, if documents were split,
            ``passages.parquet``.
        config: The steps' options.

    Raises:
        UserError: A library or model that a step needs is missing, the dataset already has passages or generated
            queries, no document is left, or ids of passages would collide with others.
    """
    config = config.filled(WITHOUT_RECIPE)
    if config.segment and config.student is None:
        raise UserError("segment needs student, the model in whose tokens the length of passages is counted")
    if dataset.parents is not None:
        raise UserError(f"dataset {dataset.name!r} already consists of passages; prepare the one it was made from")
    if dataset.generated is not None:
        raise UserError(
            f"dataset {dataset.name!r} has generated queries, each made from an unprepared document; prepare the "
            "dataset they were generated from, then generate again"
        )
    inputs = {
        "texts": [dataset.documents.fingerprint, dataset.queries.fingerprint],
        "qrels": stages.fingerprint(dataset.qrels),
        "left_out": dataset.left_out,
        **({"metadata": dataset.metadata.fingerprint} if dataset.metadata else {}),
        "config": config.model_dump(mode="json"),
        "models": [models.fingerprint(name) for name in (config.student, config.teacher) if name],
        "version": VERSION,
    }

    def work(out: Path) -> dict[str, Any]:
        scratch = out / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        cleaned, data_report = clean(dataset, config, scratch)
        beir.save(cleaned, out)
        data_report.write(out)
        shutil.rmtree(scratch)
        return {"documents": len(cleaned.documents), "queries": len(cleaned.queries)}

    return stages.stage("prepare", folder, inputs, work)


def clean(dataset: Dataset, config: PrepareConfig, scratch: Path) -> tuple[Dataset, DataReport]:
    """The cleaned dataset, stored in files of the folder ``scratch``, and its data report; all options must be set."""
    dropped, copied, leaks = Ledger(), Ledger(), Ledger()
    documents = _filter_documents(dataset.documents, config, scratch / "kept.arrow", dropped)
    documents, copies = _distinct(documents, config, scratch / "distinct.arrow", copied)
    if not len(documents):
        raise UserError(f"dataset {dataset.name!r}: no document is left; dropped: {dropped.as_dict()}")
    queries = _with_text(normalise.records(dataset.queries.records(), config), dropped)
    to_kept = judgement_transfer.to_kept_document(dataset.qrels, copies, documents, queries, dropped)
    qrels = {split: judgement_transfer.transfer(judged, to_kept) for split, judged in dataset.qrels.items()}
    cleaned = Dataset(dataset.name, documents, queries, qrels, metadata=dataset.metadata)
    cleaned = cleaned.replace(qrels=leakage.check(cleaned, config, leaks))
    if config.segment:
        assert config.student is not None and config.student_length is not None
        segmenter = Segmenter(data_statistics.tokenizer(config.student), config.student_length, config.overlap)
        cleaned = split_into_passages(cleaned, config, segmenter, scratch / "passages.arrow")
    counters = data_statistics.counters(config)
    found = {
        "left_out_as_bad_input": dataset.left_out,
        "dropped": dropped.as_dict(),
        "duplicates": copied.as_dict(),
        "leakage": leaks.as_dict(),
    }
    return cleaned, DataReport(
        dataset=dataset.name,
        before=data_statistics.describe(dataset, counters),
        after=data_statistics.describe(cleaned, counters),
        **{step: {reason: Case(**case) for reason, case in cases.items()} for step, cases in found.items()},
        config=config.model_dump(mode="json"),
    )


def _filter_documents(texts: Texts, config: PrepareConfig, path: Path, dropped: Ledger) -> Texts:
    """The documents, normalised and filtered."""
    records = normalise.records(texts.records(), config)
    records = text_filters.by_length(records, config, dropped)
    return _store(text_filters.by_language(records, config, dropped), path)


def _distinct(texts: Texts, config: PrepareConfig, path: Path, found: Ledger) -> tuple[Texts, dict[str, str]]:
    """The documents without copies, and copy -> the kept document."""
    if config.duplicates == "keep":
        return texts, {}
    exact, near, ids = duplicates.exact(texts), {}, texts.table["id"]
    if config.duplicates != "exact":
        near = duplicates.near(texts, exact, config.near_threshold, config.near_words)

    def named(rows: dict[int, int]) -> dict[str, str]:
        return {ids[row].as_py(): ids[first].as_py() for row, first in rows.items()}

    merging = near if config.duplicates == "near" else {}
    copies = named({**merging, **{row: merging.get(first, first) for row, first in exact.items()}})
    for kind, rows in (("exact", exact), ("near", near)):
        for copy, first in named(rows).items():
            if copy in copies:
                found.add(f"{kind} copy: merged", f"{copy} into {copies[copy]}")
            else:
                found.add(f"{kind} copy: kept", f"{copy} beside {first}")
    return _store((record for record in texts.records() if record[0] not in copies), path), copies


def _with_text(queries: Iterable[Record], dropped: Ledger) -> Texts:
    kept = []
    for id_, title, text in queries:
        if f"{title}{text}".strip():
            kept.append((id_, title, text))
        else:
            dropped.add("query without text", id_)
    return Texts.from_records(kept)


def _store(records: Iterable[Record], path: Path) -> Texts:
    columns.write(columns.batches(records), path)
    return Texts(columns.open_mapped(path))
