"""Which runtime embeds fastest on this machine: measured on texts of the corpus, its vectors compared with PyTorch's.

Knows clocks and vectors; must not know runtimes or shards.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from retrieval_distill.embedding.workers import Encoding, vectors

logger = logging.getLogger("retrieval_distill")

LOWEST_COSINE = 0.98
"""Of any text's vector with PyTorch's: what a runtime has to keep to be chosen. Queries are embedded by PyTorch."""

WARM = 8
"""Texts that are embedded before the clock starts."""

PASSES = 2
"""Over the sample; the faster one counts, for other programs may be running."""


def choose(encoding: Encoding, texts: Sequence[str], backends: Sequence[str]) -> dict[str, Any]:
    """Embed a sample with PyTorch and with each of some runtimes.

    Args:
        encoding: The model and what it computes in.
        texts: The sample.
        backends: Runtimes besides PyTorch.

    Returns:
        ``backend``, the fastest of those that keep :data:`LOWEST_COSINE`, and ``measured``: of each its
        ``backend``, ``texts_per_second`` and ``lowest_cosine``.
    """
    measured: list[dict[str, Any]] = []
    for backend in ("torch", *backends):
        [encode, *_] = replace(encoding, backend=backend).encoders()
        vectors(encode, texts[:WARM])
        seconds = []
        for _ in range(PASSES):
            start = perf_counter()
            found = vectors(encode, texts)
            seconds.append(perf_counter() - start)
        rate = len(texts) / min(seconds)
        unit = found / np.linalg.norm(found, axis=1, keepdims=True)
        if not measured:
            reference = unit
        lowest = float((unit * reference).sum(axis=1).min())
        measured.append({"backend": backend, "texts_per_second": round(rate, 1), "lowest_cosine": round(lowest, 5)})
        logger.info("backend %s: %.1f texts/s, lowest cosine with torch %.4f", backend, rate, lowest)
    able = [row for row in measured if row["lowest_cosine"] >= LOWEST_COSINE]
    best = max(able, key=lambda row: row["texts_per_second"])["backend"]
    logger.info("backend %s is taken: the fastest here with cosines of at least %.2f", best, LOWEST_COSINE)
    return {"backend": best, "measured": measured}
