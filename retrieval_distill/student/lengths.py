"""Counts texts that a bi-encoder truncates: tokens beyond its limit are neither embedded nor learnt from.

Knows bi-encoders and texts; must not know how the vectors are used.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypedDict

from retrieval_distill.data.dataset import Texts
from retrieval_distill.formatting import counted
from retrieval_distill.student import loading

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from retrieval_distill.student.exported import Exported
    from retrieval_distill.student.routes import Kind

logger = logging.getLogger("retrieval_distill")

SAMPLE = 1000
"""Number of texts counted; a sample suffices."""


class Truncation(TypedDict):
    """How many texts are truncated."""

    share: float
    """Of the sample."""
    sample: int
    """Texts that were counted."""
    max_length: int | None
    """Tokens kept of a text; ``None``: there is no limit."""


def report_truncation(
    name: str, model: SentenceTransformer | Exported, texts: Texts, kind: Kind, max_length: int | None = None
) -> Truncation:
    """Count the truncated texts of a sample, and log them if there are any.

    Args:
        name: The model, for the message.
        model: The bi-encoder.
        texts: The texts; at most :data:`SAMPLE` are counted, the same ones every time.
        kind: Which of the model's prompts and tokenizers to use.
        max_length: Tokens kept of a text; ``None``: the model's own limit.

    """
    sample, limit = texts.sample(SAMPLE, seed=0), loading.limit(model, kind, max_length)
    found: Truncation = {"share": 0.0, "sample": len(sample), "max_length": limit}
    if limit is None or not len(sample):
        return found
    longer = int((loading.tokens_beyond(model, sample.take(), kind, limit + 1).lengths > limit).sum())
    if longer:
        of = counted(len(sample), kind) + (" in a sample" if len(sample) < len(texts) else "")
        logger.info("model %s: %d of %s are longer than %d tokens and are truncated", name, longer, of, limit)
    return {**found, "share": round(longer / len(sample), 4)}
