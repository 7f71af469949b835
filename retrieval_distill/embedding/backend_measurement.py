"""Measures which runtime embeds fastest on this machine, on texts of the corpus, and compares vectors with PyTorch's.

Knows clocks and vectors; must not know runtimes or shards.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from retrieval_distill.embedding.workers import Encoding, encode_all

logger = logging.getLogger("retrieval_distill")

LOWEST_COSINE = 0.98
"""Smallest cosine with PyTorch's vectors that a runtime may have to be chosen, since PyTorch embeds the queries."""

WARM_UP_TEXTS = 8
"""Number of texts embedded before timing starts."""

PASSES = 2
"""Passes over the sample; the fastest one counts, since other programs may be running."""


def choose(encoding: Encoding, texts: Sequence[str], backends: Sequence[str]) -> dict[str, Any]:
    """Embed a sample with PyTorch and with each other runtime.

    Args:
        encoding: The model and its dtype.
        texts: The sample.
        backends: Runtimes besides PyTorch.

    Returns:
        ``backend``, the fastest with at least :data:`LOWEST_COSINE`, and ``measured``: ``backend``,
        ``texts_per_second`` and ``lowest_cosine`` of each.
    """
    measured: list[dict[str, Any]] = []
    for backend in ("torch", *backends):
        [encode, *_] = replace(encoding, backend=backend).encoders()
        encode_all(encode, texts[:WARM_UP_TEXTS])
        seconds = []
        for _ in range(PASSES):
            start = perf_counter()
            found = encode_all(encode, texts)
            seconds.append(perf_counter() - start)
        rate = len(texts) / min(seconds)
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        if not measured:
            reference = unit
        lowest = float((unit * reference).sum(axis=1).min())
        measured.append({"backend": backend, "texts_per_second": round(rate, 1), "lowest_cosine": round(lowest, 5)})
        logger.info("backend %s: %.1f texts/s, lowest cosine with torch %.4f", backend, rate, lowest)
    accurate = [row for row in measured if row["lowest_cosine"] >= LOWEST_COSINE]
    best = max(accurate, key=lambda row: row["texts_per_second"])["backend"]
    logger.info("chose backend %s: the fastest here with cosines of at least %.2f", best, LOWEST_COSINE)
    return {"backend": best, "measured": measured}
