"""Verbs of evaluation: ``evaluate``, ``benchmark``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from retrieval_distill import models
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare, measures
from retrieval_distill.evaluation.passages import by_document


def evaluate(
    systems: Mapping[str, Run], dataset: Dataset, split: str, names: Sequence[str] = measures.DEFAULT_MEASURES
) -> dict[str, dict[str, Any]]:
    """Measures of several Runs over the same judged queries, with intervals and paired tests between them.

    Of a dataset cut into passages, documents are measured: each by its best passage. Where queries are documents
    themselves, which their texts tell, a query's own document is left out.

    Raises:
        UserError: A run belongs to another dataset, or is defective; see :mod:`retrieval_distill.evaluation.checks`.
    """
    measured, judged = by_document(systems, dataset, split)
    documents = dataset.documents if dataset.parents is None else None
    return compare.summarise(compare.per_query(measured, judged, names, documents))


def benchmark(
    bi_encoders: Sequence[str],
    on: Sequence[str],
    folder: str | Path,
    runs: Mapping[str, str] | None = None,
    cache: str | Path = "runs/cache",
    split: str = "test",
    names: Sequence[str] = ("nDCG@10", "RR@10", "R@100"),
    depth: int = 100,
    dtype: str = "auto",
) -> dict[str, Any]:
    """Measure BM25, models and runs from elsewhere on many datasets, resumably.

    Args:
        bi_encoders: Hub ids, folders or packaged names.
        on: Datasets and tasks; see :func:`retrieval_distill.benchmarks.benchmark.benchmark`, which also says what
            comes back and what is refused.
        folder: Where everything is kept.
        runs: Run files by name; ``{dataset}`` in a file's name stands for the dataset's.
        cache: Keeps datasets that are built or downloaded.
        split: Which judgements.
        names: Measures; the first one is the headline.
        depth: Documents per query.
        dtype: What models compute in.
    """
    from retrieval_distill.benchmarks.benchmark import Systems, benchmark

    found = models.by_short_name(bi_encoders, ["bm25", *(runs or {})], "benchmark")
    return benchmark(on, Systems(found, runs or {}, dtype), folder, cache, split, names, depth)
