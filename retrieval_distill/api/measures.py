"""Verbs of evaluation: ``evaluate``, ``benchmark``.

Knows Runs, judgements and names of models; must not know how a measure is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrieval_distill.api.nouns import run_of
from retrieval_distill.bounds import Count, bounded
from retrieval_distill.data.dataset import Dataset, Qrels
from retrieval_distill.runtime.files import CACHE

if TYPE_CHECKING:
    from retrieval_distill.api.nouns import Runs
    from retrieval_distill.reporting.benchmark import BenchmarkReport
    from retrieval_distill.reporting.results import Report


def evaluate(
    runs: Runs, qrels: Qrels, *, measures: Sequence[str] | None = None, dataset: Dataset | None = None
) -> Report:
    """Measures of several Runs over the same judged queries, with intervals and paired tests between them.

    Args:
        runs: Runs by name; a run may be ``{query_id: {doc_id: score}}``.
        qrels: Judgements, ``{query_id: {doc_id: grade}}``, such as ``dataset.qrels("test")``.
        measures: Measures as ir_measures names them; the first one is the headline; ``None``: nDCG@10, RR@10, R@100,
            AP@100 and Success@5.
        dataset: The documents: of one that was cut into passages, documents are measured, each by its best passage;
            where queries are documents themselves, which their texts tell, a query's own document is left out; and a
            warning counts documents of a run that it does not have. ``None``: ids are taken as they are.

    Returns:
        The report: printed, a table with letters for significant wins; ``report["student"]["nDCG@10"].interval``.

    Raises:
        UserError: A run belongs to another dataset, or is defective; see :mod:`retrieval_distill.evaluation.checks`.
    """
    from retrieval_distill.evaluation import compare
    from retrieval_distill.evaluation.measures import DEFAULT_MEASURES
    from retrieval_distill.evaluation.passages import by_document
    from retrieval_distill.reporting.results import Report

    found = {name: run_of(run) for name, run in runs.items()}
    measured, judged = by_document(found, dataset, qrels) if dataset else (found, qrels)
    documents = None
    if dataset is not None and dataset.parents is None:
        documents = dataset.documents.intersection(
            id_ for run in measured.values() for id_ in run.frame["doc_id"].unique()
        )
    return Report.of_values(compare.per_query(measured, judged, measures or DEFAULT_MEASURES, documents))


@bounded
def benchmark(
    models: Sequence[str],
    *,
    on: Sequence[str],
    out: str | Path,
    runs: Mapping[str, str] | None = None,
    cache: str | Path = CACHE,
    split: str = "test",
    measures: Sequence[str] = ("nDCG@10", "RR@10", "R@100"),
    depth: Count = 100,
    dtype: str = "auto",
) -> BenchmarkReport:
    """Measure BM25, models and runs from elsewhere on many datasets, resumably.

    Args:
        models: Bi-encoders: hub ids, folders or packaged names.
        on: Datasets, as ``load_dataset`` takes them; and, for models alone, ``sts:FILE``, ``paraphrases:FILE`` or
            ``mteb:TASK``.
        out: Folder where everything is kept.
        runs: Run files by name; ``{dataset}`` in a file's name stands for the dataset's.
        cache: Folder that keeps datasets that had to be built, downloaded or unpacked.
        split: Split whose queries are asked, and whose judgements measure.
        measures: Measures as ir_measures names them; the first one is the headline.
        depth: Documents per query.
        dtype: What models compute in: ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"auto"``.

    Returns:
        What ``benchmark.json`` holds; printed, a table.

    Raises:
        UserError: As :func:`retrieval_distill.benchmarks.benchmark.benchmark`.
    """
    from retrieval_distill import models as known
    from retrieval_distill.benchmarks.benchmark import Systems, benchmark

    found = known.by_short_name(models, ["bm25", *(runs or {})], "benchmark")
    return benchmark(on, Systems(found, runs or {}, dtype), out, cache, split, measures, depth)
