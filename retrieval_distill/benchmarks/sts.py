"""Semantic textual similarity: does a model's similarity rank pairs of sentences as people do?

Knows the file of pairs and bi-encoders; must not know corpora or judgements of retrieval.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, spearmanr

from retrieval_distill import models
from retrieval_distill.embedding.embed import comparable
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import Mean
from retrieval_distill.runtime import text_files

MEASURE = "Spearman"


def measure(path: str, model: str, dtype: str = "auto") -> dict[str, Any]:
    """Spearman correlation between a model's similarities and people's scores.

    Both sentences are embedded with the model's ``query`` prompt, if it has one, because the task is symmetric.

    Args:
        path: File with lines of sentence, sentence and score, separated by tabs; a header line is skipped.
        model: A bi-encoder.
        dtype: The compute dtype.

    Returns:
        ``measure``, ``mean``, ``low``, ``high`` (95 % interval, see :func:`interval`) and ``pairs``.

    Raises:
        UserError: The file is missing or malformed, has fewer than four pairs, or all its scores are equal.
    """
    from retrieval_distill.student import encoder

    firsts, seconds, scores = read(Path(path))
    loaded = encoder.load(model, dtype)
    a, b = (comparable(encoder.encode(loaded, side, "query"), models.similarity(model)) for side in (firsts, seconds))
    found = interval(float(spearmanr(np.einsum("ij,ij->i", a, b), scores).statistic), len(scores))
    return {"measure": MEASURE, "mean": found.mean, "low": found.low, "high": found.high, "pairs": len(scores)}


def interval(correlation: float, pairs: int) -> Mean:
    """A rank correlation with its 95 % interval, from Fisher's transformation with Bonett and Wright's standard error.

    Bonett, Wright: Sample size requirements for estimating Pearson, Kendall and Spearman correlations, 2000.
    """
    if abs(correlation) == 1:
        return Mean(correlation, correlation, correlation)
    half = norm.ppf(0.975) * math.sqrt((1 + correlation**2 / 2) / (pairs - 3))
    centre = math.atanh(correlation)
    return Mean(correlation, math.tanh(centre - half), math.tanh(centre + half))


def read(path: Path) -> tuple[list[str], list[str], np.ndarray]:
    """First sentences, second sentences and scores of a file of pairs.

    Raises:
        UserError: As :func:`measure`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of sentence pairs")
    rows = []
    for number, line in enumerate(text_files.lines(path), 1):
        fields = line.split("\t")
        if not line.strip() or (number == 1 and fields[-1].strip() == "score"):
            continue
        try:
            first, second, score = fields
            rows.append((first, second, float(score)))
            if not math.isfinite(rows[-1][2]):
                raise ValueError
        except ValueError:
            raise UserError(
                f"{path}:{number}: expected sentence, sentence and score, tab-separated: {line[:200]!r}"
            ) from None
    if len(rows) < 4 or len({score for _, _, score in rows}) == 1:
        raise UserError(f"{path}: a correlation needs at least four pairs and two different scores")
    firsts, seconds, scores = zip(*rows, strict=True)
    return list(firsts), list(seconds), np.array(scores)
