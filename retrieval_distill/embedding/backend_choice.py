"""What is decided once for a folder of vectors, by a sample of its texts: how vectors are stored, and the runtime.

Each decision is a file in the folder, which a restart finds and vectors that are brought up to date inherit. Knows
samples of texts; must not know shards.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from retrieval_distill.data.dataset import Texts
from retrieval_distill.embedding import sound
from retrieval_distill.embedding.backend_measurement import choose
from retrieval_distill.embedding.embeddings import Embeddings
from retrieval_distill.embedding.storage import Storage
from retrieval_distill.embedding.workers import Encode, Encoding, vectors
from retrieval_distill.runtime import stages

CALIBRATED = 2048
"""Documents whose vectors set the ranges of 8-bit codes."""

MEASURED = 128
"""Documents that runtimes are measured on."""


def runtime(
    encoding: Encoding, documents: Texts, out: Path, old: Embeddings | None
) -> tuple[Encoding, list[dict[str, Any]]]:
    """With backend ``"auto"`` the runtime that was the fastest when it was first asked for, and what was measured."""
    if encoding.backend != "auto":
        return encoding, []
    path = out / "backend.json"
    if old is not None:
        shutil.copyfile(old.folder / path.name, path)
    if not path.is_file():
        from retrieval_distill.student.backends import installed

        sample = documents.drawn(MEASURED, seed=0).take() or [""]
        stages.write_json(path, choose(encoding, sample, installed()))
    choice = stages.read_json(path)
    return replace(encoding, backend=choice["backend"]), choice["measured"]


def storage(
    name: str, encoding: Encoding, documents: Texts, out: Path, old: Embeddings | None, encoders: Sequence[Encode]
) -> Storage:
    """How vectors are stored; the ranges of 8-bit codes are a sample's, of the first corpus that had texts."""
    if old is not None and (name != "int8" or old.manifest["counts"]["documents"]):
        return old.storage.save(out)
    if not (out / "storage.json").is_file():
        sample = documents.drawn(CALIBRATED if name == "int8" else 1, seed=0)
        found = vectors(encoders[0], sample.take() or [""])
        if name == "int8":  # whose ranges are written down before the first shard is checked
            sound.require_finite(encoding.model, found, sample.ids, encoding.kind)
        return Storage.fit(name, found).save(out)
    return Storage.open(out)
