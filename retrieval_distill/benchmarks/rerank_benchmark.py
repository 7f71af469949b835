"""A benchmark of rerankers: gain and cost of many rerankers x first-stage Runs x depths.

Knows Runs, judgements and teachers; must not know how a table or a plot is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.benchmarks import speed
from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.run import Run
from retrieval_distill.evaluation import compare, self_hits
from retrieval_distill.evaluation.benchmark_folders import is_rerank_benchmark
from retrieval_distill.evaluation.compare import Measured
from retrieval_distill.runtime import destination, memory
from retrieval_distill.scores.teacher_contract import Pairs, Teacher
from retrieval_distill.teacher.rerank import rerank
from retrieval_distill.teacher.scoring import pairs_of

TIMED_QUERIES = 15
"""Queries reranked one at a time for the latency, after a first one as warm-up."""


def benchmark(
    runs: Mapping[str, Run],
    rerankers: Mapping[str, Teacher],
    depths: Sequence[int],
    dataset: Dataset,
    split: str,
    measures: Sequence[str],
    store: str | Path,
    folder: str | Path,
) -> dict[str, Any]:
    """Measure every combination; stored scores are reused, but speed is always measured again.

    Args:
        runs: First-stage Runs by name.
        rerankers: Teachers by name.
        depths: Numbers of documents per query that are reranked.
        dataset: Texts and judgements.
        split: Split of the judgements.
        measures: As ir_measures names them; the first one is the headline.
        store: Folder of the score store.
        folder: Each combination's Run is written to ``runs/RUN+RERANKER@DEPTH.parquet`` there.

    Returns:
        ``measures`` and ``systems``: for each first stage and combination ``name``, ``run``, ``reranker``, ``depth``,
        the measures (``mean``, ``low``, ``high``, ``p_vs`` its first stage, ``p_holm_vs`` and ``difference_vs``
        corrected for all comparisons), ``pairs``, and of the reranker ``pairs_per_second``, ``latency_ms`` per query
        (``p50``, ``p95``) and ``peak_memory_bytes`` of the process.
    """
    queries = dataset.queries(split)
    destination.claim(folder, "rerank", is_rerank_benchmark)
    names = {model: name for name, model in models.by_short_name(rerankers, (), "rerank").items()}
    rows: list[dict[str, Any]] = []
    for run_name, run in runs.items():
        first = self_hits.drop_self_hits(run.select(queries.ids), queries, dataset.documents, dataset.qrels(split))
        systems = {run_name: first}
        costs: dict[str, dict[str, Any]] = {run_name: {"run": run_name, "reranker": None, "depth": 0, "pairs": 0}}
        for reranker_name, reranker in rerankers.items():
            for depth in sorted(depths, reverse=True):
                name = f"{run_name}+{names[reranker_name]}@{depth}"
                systems[name] = rerank(first, queries, dataset.documents, reranker, store, depth)
                systems[name].save(Path(folder) / "runs" / f"{name}.parquet")
                spent = cost(reranker, pairs_of(first.top(depth), queries, dataset.documents))
                costs[name] = {"run": run_name, "reranker": reranker_name, "depth": depth, **spent}
                costs[name]["pairs"] = systems[name].facts["pairs"]
        measured = compare.compare(systems, dataset.qrels(split), measures)
        rows += [_row(name, values, costs[name], run_name) for name, values in measured.items()]
    return {"measures": list(measures), "queries": len(queries), "systems": rows}


def cost(reranker: Teacher, pairs: Pairs) -> dict[str, Any]:
    """The cost of reranking one query after another.

    Args:
        reranker: Scores a sample of the queries, one at a time, without a store.
        pairs: A Run's pairs.

    Returns:
        ``pairs_per_second``, ``latency_ms`` per query (``p50``, ``p95``) and ``peak_memory_bytes`` of the process.
    """
    by_query = [np.flatnonzero(pairs.rows[:, 0] == query) for query in np.unique(pairs.rows[:, 0])]
    chosen = by_query[:: max(1, len(by_query) // (TIMED_QUERIES + 1))][: TIMED_QUERIES + 1]
    memory.reset_peak()
    seconds = [speed.seconds(_score, reranker, _single_query(pairs, positions)) for positions in chosen]
    seconds = seconds[1:] or seconds  # the first one warms up
    timed = sum(len(positions) for positions in chosen[-len(seconds) :])
    return {
        "pairs_per_second": round(timed / sum(seconds), 1),
        "latency_ms": speed.milliseconds(seconds),
        "peak_memory_bytes": memory.peak_bytes(),
    }


def _single_query(pairs: Pairs, positions: np.ndarray) -> Pairs:
    """One query's pairs and texts only, as a search service would have them."""
    query, documents = int(pairs.rows[positions[0], 0]), pairs.rows[positions, 1]
    rows = np.stack([np.zeros(len(positions), np.int64), np.arange(len(positions))], axis=1)
    ids, texts = ([side[row] for row in documents] for side in (pairs.document_ids, pairs.documents))
    return Pairs([pairs.query_ids[query]], [pairs.queries[query]], ids, texts, rows, np.ones(len(positions), bool))


def _score(reranker: Teacher, pairs: Pairs) -> None:
    for _ in reranker.score(pairs):
        pass


def _row(name: str, values: Mapping[str, Measured], costs: dict[str, Any], first_stage: str) -> dict[str, Any]:
    """One row of the report, with the comparison with its own first stage only."""
    plain = {measure: asdict(value) for measure, value in values.items()}
    for value in plain.values():
        for key in ("p_vs", "p_holm_vs", "difference_vs"):
            value[key] = {other: found for other, found in value[key].items() if other == first_stage}
    return {"name": name, **costs, **plain}
