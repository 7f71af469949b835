"""Where building an index starts: from nothing, or from an older index that holds the first of the vectors.

A digest of the vectors decides, so nothing is added to an index whose texts have changed. Knows
manifests and vectors; must not know FAISS.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill.index.kinds import Kind, training_vectors
from retrieval_distill.index.vectors import PreparedVectors
from retrieval_distill.runtime import stages

RETRAIN_AT = 2
"""A trained index is trained again once it is this many times as large as when it was trained."""


@dataclass(frozen=True)
class Start:
    """Where building starts.

    Args:
        folder: The index to add to; ``None``: none.
        documents: Number of vectors in it.
        trained_on: Number of documents when it was, or will be, trained.
        digest: SHA-256 of its vectors so far.
        blocks: The vectors still to add.
    """

    folder: Path | None
    documents: int
    trained_on: int
    digest: Any
    blocks: Iterator[np.ndarray]


def start(before: Path | None, prepared: PreparedVectors, kind: Kind) -> Start:
    """Start from the index in ``before`` if its vectors are the first of these, else from nothing."""
    manifest = stages.read_manifest(before) if before else None
    if before is not None and manifest is not None:
        counts = manifest["counts"]
        if counts["documents"] <= prepared.documents <= RETRAIN_AT * counts["trained_on"]:
            digest, rest = _digest_and_rest(prepared, counts["documents"])
            if digest.hexdigest() == counts["digest"]:
                grows = training_vectors(kind, prepared.documents) == 0
                trained_on = prepared.documents if grows else counts["trained_on"]
                return Start(before, counts["documents"], trained_on, digest, rest)
    return Start(None, 0, prepared.documents, hashlib.sha256(), prepared.blocks())


def _digest_and_rest(prepared: PreparedVectors, documents: int) -> tuple[Any, Iterator[np.ndarray]]:
    """The digest of the first vectors, and the blocks of those after them."""
    digest, blocks, left = hashlib.sha256(), prepared.blocks(), documents
    for block in blocks:
        digest.update(block[:left].data)
        if left <= len(block):
            return digest, chain([block[left:]] if left < len(block) else [], blocks)
        left -= len(block)
    return digest, iter(())
