"""The data report: counts, lengths and judged depth.

Knows datasets and tokenizers; must not know how the data were prepared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.config import PrepareConfig
from retrieval_distill.data import columns
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.prepare.data_report_file import Contents, Histogram, JudgedDepth, Lengths, TextLengths
from retrieval_distill.data.prepare.words import words
from retrieval_distill.data.tokens import tokenize

EDGES = (0, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Lower bounds of a histogram's bins; the last one has no upper bound."""

TEXTS_AT_ONCE = 1024
"""Texts tokenised at once, since a tokenizer's output takes many times their memory."""


@dataclass(frozen=True)
class Counter:
    """A measure of text lengths.

    Args:
        count: Texts -> length of each.
        limit: Length beyond which a text is truncated; ``None``: none.
        pair: Additional length of a pair over its two texts, for a model that reads both at once and truncates the
            document: the limit then leaves room for a query of median length. ``None``: texts are read alone.
    """

    count: Callable[[list[str]], np.ndarray]
    limit: int | None = None
    pair: int | None = None


def describe(dataset: Dataset, counters: dict[str, Counter]) -> Contents:
    """Counts and judged depth of a dataset, and its lengths by the name of each counter."""
    return Contents(
        documents=len(dataset.documents),
        queries=len(dataset.queries),
        splits={split: depth(judged) for split, judged in dataset.qrels.items()},
        lengths={name: _lengths_of(dataset, counter) for name, counter in counters.items()},
    )


def _lengths_of(dataset: Dataset, counter: Counter) -> TextLengths:
    queries = lengths(dataset.queries, counter)
    beside = 0 if counter.pair is None or not queries.texts else queries.p50 + counter.pair
    return TextLengths(documents=lengths(dataset.documents, counter, beside), queries=queries)


def counters(config: PrepareConfig) -> dict[str, Counter]:
    """Counters of words, and of the tokens of the student and the teacher if these are named."""
    found = {"words": Counter(_words)}
    if config.student is not None:
        found["student"] = Counter(_tokens(tokenizer(config.student)), config.student_length)
    if config.teacher is not None:
        own = tokenizer(config.teacher)
        pair = own.num_special_tokens_to_add(pair=True) - 2 * own.num_special_tokens_to_add()
        found["teacher"] = Counter(_tokens(own), config.teacher_length, pair)
    return found


def depth(judged: Qrels) -> JudgedDepth:
    """Numbers of judged queries, pairs and relevant pairs of a split, in total and per query."""
    relevant = [sum(grade > 0 for grade in grades.values()) for grades in judged.values()]
    pairs = sum(map(len, judged.values()))
    return JudgedDepth(
        queries=len(judged),
        pairs=pairs,
        relevant=sum(relevant),
        judged_per_query=pairs / len(judged) if judged else 0.0,
        relevant_per_query=sum(relevant) / len(judged) if judged else 0.0,
        queries_without_relevant=relevant.count(0),
        grades=_count_values([grade for grades in judged.values() for grade in grades.values()]),
    )


def lengths(texts: Texts, counter: Counter, beside: int = 0) -> Lengths:
    """Histogram, quantiles and, with a limit, the share of texts and of tokens beyond it, less ``beside``."""
    parts = zip(columns.parts(texts.table["title"]), columns.parts(texts.table["text"]), strict=True)
    joined = ([f"{a} {b}".strip() for a, b in zip(*part, strict=True)] for part in parts)
    found = np.concatenate([np.zeros(0, np.int64), *(counter.count(part) for part in joined)])
    if not len(found):
        return Lengths(texts=0)
    bins = np.histogram(found, [*EDGES, np.inf])[0].tolist()
    p50, p90, p99 = (int(np.percentile(found, q, method="lower")) for q in (50, 90, 99))
    summary = Lengths(
        texts=len(found), mean=float(found.mean()), p50=p50, p90=p90, p99=p99, max=int(found.max()),
        histogram=Histogram(lower=list(EDGES), counts=bins),
    )  # fmt: skip
    if counter.limit is None:
        return summary
    limit = max(counter.limit - beside, 0)
    beyond = np.maximum(found - limit, 0)
    truncated, lost = float((beyond > 0).mean()), float(beyond.sum() / max(found.sum(), 1))
    return summary.model_copy(update={"limit": limit, "beside": beside, "truncated": truncated, "lost": lost})


def tokenizer(model: str) -> Any:
    """A model's tokenizer; an adapter has its base's.

    Raises:
        UserError: There is no such model.
    """
    from transformers import AutoTokenizer

    from retrieval_distill import weights

    folder = models.resolve(model)
    base = models.adapter_base(folder)
    if base is not None and not (folder / "tokenizer_config.json").is_file():
        folder = models.resolve(base)
    with weights.loading(folder):
        found = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    weights.require_vocabulary(folder, found)
    return found


def _words(texts: list[str]) -> np.ndarray:
    return np.fromiter((len(words(text)) for text in texts), np.int64, len(texts))


def _tokens(tokenizer: Any) -> Callable[[list[str]], np.ndarray]:
    def count(texts: list[str]) -> np.ndarray:
        parts = (texts[start : start + TEXTS_AT_ONCE] for start in range(0, len(texts), TEXTS_AT_ONCE))
        return np.concatenate([tokenize(tokenizer, part, None).lengths for part in parts])

    return count


def _count_values(values: list[int]) -> dict[str, int]:
    return {str(value): values.count(value) for value in sorted(set(values))}
