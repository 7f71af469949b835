"""What an index can be built from: nothing, or an older one whose vectors are the first of these.

Whether they are is told by a digest of them, so nothing is added to an index of texts that have changed since. Knows
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
from retrieval_distill.index.vectors import Prepared
from retrieval_distill.runtime import stages

RETRAIN_AT = 2
"""An index that was trained grows by adding until it is so many times as large as when it was."""


@dataclass(frozen=True)
class Start:
    """Where building starts.

    Args:
        folder: An index to add to; ``None``: there is none.
        documents: Vectors in it.
        trained_on: Documents there were when it was, or will be, trained.
        digest: SHA-256 of its vectors so far.
        blocks: The vectors it lacks.
    """

    folder: Path | None
    documents: int
    trained_on: int
    digest: Any
    blocks: Iterator[np.ndarray]


def start(before: Path | None, prepared: Prepared, kind: Kind) -> Start:
    """The index of this kind and these options in ``before`` as a start, if it is one, else a new one."""
    manifest = stages.read_manifest(before) if before else None
    if before is not None and manifest is not None:
        counts = manifest["counts"]
        if counts["documents"] <= prepared.documents <= RETRAIN_AT * counts["trained_on"]:
            digest, rest = _after(prepared, counts["documents"])
            if digest.hexdigest() == counts["digest"]:
                grows = training_vectors(kind, prepared.documents) == 0
                trained_on = prepared.documents if grows else counts["trained_on"]
                return Start(before, counts["documents"], trained_on, digest, rest)
    return Start(None, 0, prepared.documents, hashlib.sha256(), prepared.blocks())


def _after(prepared: Prepared, documents: int) -> tuple[Any, Iterator[np.ndarray]]:
    """The digest of the first vectors, and the blocks of those after them."""
    digest, blocks, left = hashlib.sha256(), prepared.blocks(), documents
    for block in blocks:
        digest.update(block[:left].data)
        if left <= len(block):
            return digest, chain([block[left:]] if left < len(block) else [], blocks)
        left -= len(block)
    return digest, iter(())
