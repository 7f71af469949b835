"""Checks vectors: NaN and infinity are refused, and zero vectors warned about.

Knows arrays and ids; must not know models, files or indexes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

logger = logging.getLogger("retrieval_distill")

NAMED_IDS = 3
"""Number of ids that a message names."""


def check(model: str, vectors: np.ndarray, ids: Sequence[str], kind: str) -> None:
    """Refuse NaN and infinite vectors, and warn about zero vectors, which empty texts may have.

    Args:
        model: The model, for the message.
        vectors: Float32 [texts, dimensions].
        ids: Ids of the texts.
        kind: ``"document"`` or ``"query"``.

    Raises:
        UserError: There are NaN or infinite vectors.
    """
    require_finite(model, vectors, ids, kind)
    zeros = np.flatnonzero(~vectors.any(axis=1))
    if len(zeros):
        logger.warning(
            "model %s gives zero vectors for %d of %s, such as %s %s; all their scores are 0",
            model, len(zeros), counted(len(vectors), "text"), kind,
            ", ".join(repr(ids[row]) for row in zeros[:NAMED_IDS]),
        )  # fmt: skip


def require_finite(model: str, vectors: np.ndarray, ids: Sequence[str], kind: str) -> None:
    """Refuse NaN and infinite vectors.

    Raises:
        UserError: There are some; the message names the model and the first text.
    """
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        first = repr(ids[wrong[0]]) if len(ids) else "of no text"
        raise UserError(
            f"model {model!r} gives NaN or infinite vectors for {len(wrong)} of {counted(len(vectors), 'text')}, first "
            f"for {kind} {first}; try --dtype float32, or another model"
        )
