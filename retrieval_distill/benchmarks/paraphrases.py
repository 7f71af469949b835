"""Paraphrase mining: are sentences with the same meaning the most similar pairs of all?

Knows the file of sentences and bi-encoders; must not know corpora or judgements of retrieval.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.util import dot_score, paraphrase_mining_embeddings

from retrieval_distill import models
from retrieval_distill.embedding.embed import comparable
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import mean_with_interval
from retrieval_distill.runtime import text_files

MEASURE = "average precision"


def measure(path: str, model: str, dtype: str = "auto") -> dict[str, Any]:
    """Average precision of all pairs of sentences by similarity, as sentence-transformers' evaluator computes it.

    Candidates are the 100 nearest neighbours of each sentence. The model's ``query`` prompt is used, if it has one.

    Args:
        path: File with a line of tab-separated sentences per meaning; a line with one sentence is a distractor.
        model: A bi-encoder.
        dtype: The compute dtype.

    Returns:
        ``measure``, ``mean``, ``low``, ``high`` (95 % bootstrap interval over the known pairs), ``sentences`` and
        ``pairs``, the number of known pairs.

    Raises:
        UserError: The file is missing, repeats a sentence, or has no two sentences on one line.
    """
    from retrieval_distill.student import encoder

    sentences, known = read(Path(path))
    vectors = comparable(encoder.encode(encoder.load(model, dtype), sentences, "query"), models.similarity(model))
    mined = paraphrase_mining_embeddings(torch.from_numpy(vectors), score_function=dot_score)
    found = mean_with_interval(precisions(mined, known))
    return {
        "measure": MEASURE, "mean": found.mean, "low": found.low, "high": found.high,
        "sentences": len(sentences), "pairs": len(known),
    }  # fmt: skip


def precisions(mined: list[list[float | int]], known: set[tuple[int, int]]) -> np.ndarray:
    """For each known pair, the share of known pairs among the mined pairs at least as similar; 0 if it was not mined.

    Args:
        mined: Pairs, best first: score, lower row, higher row.
        known: Pairs of rows with the same meaning.
    """
    scores = np.array([score for score, _, _ in mined])
    hits = np.array([(int(i), int(j)) in known for _, i, j in mined], bool)
    last = np.searchsorted(-scores, -scores, side="right") - 1  # equal scores count together
    precision = np.cumsum(hits)[last] / (last + 1)
    return np.concatenate([precision[hits], np.zeros(len(known) - hits.sum())])


def read(path: Path) -> tuple[list[str], set[tuple[int, int]]]:
    """Sentences, and the pairs of rows with the same meaning, the lower row first.

    Raises:
        UserError: As :func:`measure`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of paraphrases")
    rows: dict[str, int] = {}
    known: set[tuple[int, int]] = set()
    for number, line in enumerate(text_files.lines(path), 1):
        group = [sentence.strip() for sentence in line.split("\t") if sentence.strip()]
        for sentence in group:
            if sentence in rows:
                raise UserError(
                    f"{path}:{number}: {sentence!r} occurs twice; put all sentences with the same meaning on one line"
                )
            rows[sentence] = len(rows)
        known |= set(combinations([rows[sentence] for sentence in group], 2))
    if not known:
        raise UserError(f"{path}: no line has two sentences; separate sentences with the same meaning by a tab")
    return list(rows), known
