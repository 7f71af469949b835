"""Decides the storage of vectors and the runtime that computes them, once per folder, from a sample of the texts.

Each decision is a file in the folder, kept across restarts and inherited by updated vectors. Knows
samples of texts; must not know shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding import vector_checks
from retrieval_distill.embedding.backend_measurement import choose
from retrieval_distill.embedding.embeddings import Embeddings
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.embedding.workers import Encode, Encoding, encode_all
from retrieval_distill.runtime import stages

CALIBRATION_DOCUMENTS = 2048
"""Number of documents whose vectors set the ranges of 8-bit codes."""

MEASUREMENT_DOCUMENTS = 128
"""Number of documents on which runtimes are measured."""


def choose_runtime(
    encoding: Encoding, documents: Texts, out: Path, old: Embeddings | None
) -> tuple[Encoding, list[dict[str, Any]]]:
    """The encoding with backend ``"auto"`` replaced by the fastest runtime, and the measurements (made once)."""
    if encoding.backend != "auto":
        return encoding, []
    path = out / "backend.json"
    if old is not None:
        shutil.copyfile(old.folder / path.name, path)
    if not path.is_file():
        from retrieval_distill.student.backends import installed_backends

        sample = documents.sample(MEASUREMENT_DOCUMENTS, seed=0).take() or [""]
        stages.write_json(path, choose(encoding, sample, installed_backends()))
    choice = stages.read_json(path)
    return replace(encoding, backend=choice["backend"]), choice["measured"]


def choose_storage(
    name: str, encoding: Encoding, documents: Texts, out: Path, old: Embeddings | None, encoders: Sequence[Encode]
) -> Storage:
    """How vectors are stored. The ranges of 8-bit codes come from a sample of the first corpus that had texts."""
    if old is not None and (name != "int8" or old.manifest["counts"]["documents"]):
        return old.storage.save(out)
    if not (out / "storage.json").is_file():
        sample = documents.sample(CALIBRATION_DOCUMENTS if name == "int8" else 1, seed=0)
        found = encode_all(encoders[0], sample.take() or [""])
        if name == "int8":  # its ranges are saved before the first shard is checked
            vector_checks.require_finite(encoding.model, found, sample.ids, encoding.kind)
        return Storage.fit(name, found).save(out)
    return Storage.open(out)
