"""The data report: how much there is, how long it is, and how deep it is judged.

Knows datasets and tokenizers; must not know what was done to the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.artifacts import read_json
from retrieval_distill.config import PrepareConfig
from retrieval_distill.data import columns
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.prepare.words import words
from retrieval_distill.data.tokens import tokenize

EDGES = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Lower bounds of a histogram's bins; the last one has no upper bound."""

Count = Callable[[list[str]], np.ndarray]
"""Texts -> length of each."""


def describe(dataset: Dataset, counters: dict[str, tuple[Count, int | None]]) -> dict[str, Any]:
    """Counts, judged depth and lengths of a dataset.

    Args:
        dataset: What to describe.
        counters: Name -> (how to measure a text, limit beyond which it is cut; ``None``: no limit).
    """
    return {
        "documents": len(dataset.documents),
        "queries": len(dataset.queries),
        "splits": {split: depth(judged) for split, judged in dataset.qrels.items()},
        "lengths": {
            name: {
                "documents": lengths(dataset.documents, count, limit),
                "queries": lengths(dataset.queries, count, limit),
            }
            for name, (count, limit) in counters.items()
        },
    }


def counters(config: PrepareConfig) -> dict[str, tuple[Count, int | None]]:
    """Words, and the tokens of the student and the teacher where these are named."""
    found: dict[str, tuple[Count, int | None]] = {"words": (_words, None)}
    named = {"student": (config.student, config.student_length), "teacher": (config.teacher, config.teacher_length)}
    for role, (model, limit) in named.items():
        if model is not None:
            found[role] = (_tokens(tokenizer(model)), limit)
    return found


def depth(judged: Qrels) -> dict[str, Any]:
    """Judged queries and pairs of a split, how many are relevant, and how many per query."""
    relevant = [sum(grade > 0 for grade in grades.values()) for grades in judged.values()]
    pairs = sum(map(len, judged.values()))
    return {
        "queries": len(judged),
        "pairs": pairs,
        "relevant": sum(relevant),
        "judged_per_query": pairs / len(judged) if judged else 0.0,
        "relevant_per_query": sum(relevant) / len(judged) if judged else 0.0,
        "queries_without_relevant": relevant.count(0),
        "grades": _counted([grade for grades in judged.values() for grade in grades.values()]),
    }


def lengths(texts: Texts, count: Count, limit: int | None) -> dict[str, Any]:
    """Histogram, quantiles and, with a limit, the share of texts and of their length beyond it."""
    parts = zip(columns.parts(texts.table["title"]), columns.parts(texts.table["text"]), strict=True)
    joined = ([f"{a} {b}".strip() for a, b in zip(*part, strict=True)] for part in parts)
    found = np.concatenate([np.zeros(0, np.int64), *(count(part) for part in joined)])
    if not len(found):
        return {"texts": 0}
    told = {
        "texts": len(found),
        "mean": float(found.mean()),
        **{f"p{q}": int(np.percentile(found, q, method="lower")) for q in (50, 90, 99)},
        "max": int(found.max()),
        "histogram": {"from": list(EDGES), "counts": np.histogram(found, [*EDGES, np.inf])[0].tolist()},
    }
    if limit is None:
        return told
    beyond = np.maximum(found - limit, 0)
    cut = {"limit": limit, "truncated": float((beyond > 0).mean()), "lost": float(beyond.sum() / max(found.sum(), 1))}
    return {**told, **cut}


def tokenizer(model: str) -> Any:
    """A model's tokenizer; an adapter has its base's.

    Raises:
        UserError: There is no such model.
    """
    from transformers import AutoTokenizer

    folder = models.resolve(model)
    adapter = folder / "adapter_config.json"
    if adapter.is_file() and not (folder / "tokenizer_config.json").is_file():
        folder = models.resolve(read_json(adapter)["base_model_name_or_path"])
    return AutoTokenizer.from_pretrained(folder)


def _words(texts: list[str]) -> np.ndarray:
    return np.fromiter((len(words(text)) for text in texts), np.int64, len(texts))


def _tokens(tokenizer: Any) -> Count:
    return lambda texts: tokenize(tokenizer, texts, None).lengths


def _counted(values: list[int]) -> dict[str, int]:
    return {str(value): values.count(value) for value in sorted(set(values))}
