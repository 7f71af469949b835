"""``benchmark``: many datasets x many systems, each measured once.

Every combination has its own folder, so a killed benchmark continues, and a longer list measures only what is new.
Knows datasets, models and Runs; must not know how a table looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from retrieval_distill import models
from retrieval_distill.benchmarks import mteb_task, paraphrases, sts
from retrieval_distill.config import RetrieveConfig
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.dataset_loader import load
from retrieval_distill.data.run import Run
from retrieval_distill.embedding.embed import Embeddings, embed
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation import compare
from retrieval_distill.evaluation.benchmark_folders import is_benchmark
from retrieval_distill.evaluation.passages import by_document
from retrieval_distill.evaluation.significance import Mean, macro_mean_with_interval
from retrieval_distill.hardware import devices
from retrieval_distill.reporting.benchmark import BenchmarkReport, DatasetResult, TaskResult
from retrieval_distill.retrieval import exact
from retrieval_distill.retrieval.bm25 import BM25
from retrieval_distill.runtime import destination, files, text_files
from retrieval_distill.runtime.stages import read_json, stage, write_json

TASKS: dict[str, Callable[[str, str, str], dict[str, Any]]] = {
    "sts": sts.measure,
    "paraphrases": paraphrases.measure,
    "mteb": mteb_task.measure,
}
"""Tasks other than retrieval: prefix of the name -> function of the task's own name, a model and a dtype."""


@dataclass(frozen=True)
class Systems:
    """The systems measured on every dataset besides BM25."""

    models: Mapping[str, str]
    """Bi-encoders by name."""
    runs: Mapping[str, str]
    """Run files by name; ``{dataset}`` in a file name is replaced by the dataset's name."""
    dtype: str = "auto"


def benchmark(
    sources: Sequence[str],
    systems: Systems,
    out: str | Path,
    cache: str | Path,
    split: str = "test",
    measures: Sequence[str] = ("nDCG@10", "RR@10", "R@100"),
    depth: int = 100,
) -> BenchmarkReport:
    """Measure every system on every dataset.

    Args:
        sources: Datasets (see :func:`retrieval_distill.data.dataset_loader.load`), or tasks: ``sts:FILE``,
            ``paraphrases:FILE``, ``mteb:TASK``, on which only models are measured.
        systems: Models and runs.
        out: Folder for ``DATASET/SYSTEM/`` with intermediate results, ``DATASET/per_query.parquet`` and
            ``benchmark.json``.
        cache: Folder for datasets that are built or downloaded.
        split: Split of the queries and judgements.
        measures: As ir_measures names them; the first one is the headline.
        depth: Documents per query.

    Raises:
        UserError: Two datasets have the same name, a dataset, model or run does not exist, a run belongs to another
            dataset, or ``out`` holds other files.
    """
    out = Path(out)
    destination.check_appendable(out, "benchmark", is_benchmark)
    names = _name_sources(sources)
    tasks = {name for name, source in names.items() if source.partition(":")[0] in TASKS}
    for run, file in systems.runs.items():
        if len(names) - len(tasks) > 1 and "{dataset}" not in file:
            raise UserError(f"--run {run}={file}: with several datasets, put {{dataset}} where their names stand")
    values: dict[str, pd.DataFrame] = {}
    datasets, results = dict[str, DatasetResult](), dict[str, dict[str, TaskResult]]()
    for name, source in names.items():
        if name in tasks:
            destination.claim(out, "benchmark", is_benchmark)
            results[name] = {model: _measure_task(source, systems, model, out / name) for model in systems.models}
            continue
        dataset = load(source, cache)
        destination.claim(out, "benchmark", is_benchmark)
        runs = _retrieve(name, dataset, dataset.queries(split), systems, out / name, dataset.in_passages(depth))
        measured, judged = by_document(runs, dataset, dataset.qrels(split))
        values[name] = compare.per_query(
            measured, judged, measures, dataset.documents if dataset.parents is None else None
        )
        with files.atomic(out / name / "per_query.parquet") as temporary:
            values[name].to_parquet(temporary, index=False)
        datasets[name] = DatasetResult(
            docs=len(dataset.documents),
            queries=len(dataset.qrels(split)),
            systems=compare.summarise(values[name]),
            minimum_detectable=compare.minimum_detectable(values[name]),
        )
    report = BenchmarkReport(
        measures=list(measures),
        datasets=datasets,
        average=average(values, measures),
        tasks=results,
        environment=devices.describe(),
    )
    report.write(out)
    return report


def average(values: Mapping[str, pd.DataFrame], measures: Sequence[str]) -> dict[str, dict[str, Mean]]:
    """Each system's mean over datasets, each with the same weight; empty for fewer than two datasets.

    Args:
        values: Dataset -> result of :func:`retrieval_distill.evaluation.compare.per_query`.
        measures: Columns to average.
    """
    if len(values) < 2:
        return {}
    by_dataset = [dict(list(frame.groupby("system", sort=False))) for frame in values.values()]

    def macro(system: str, measure: str) -> Mean:
        return macro_mean_with_interval([frames[system][measure].to_numpy() for frames in by_dataset])

    return {system: {measure: macro(system, measure) for measure in measures} for system in by_dataset[0]}


def _name_sources(sources: Iterable[str]) -> dict[str, str]:
    """Name -> source; the name is taken from the folder, collection or file."""
    found: dict[str, str] = {}
    for source in sources:
        kind, _, rest = source.partition(":")
        name = models.short_name(source.partition("@")[0])
        if kind in TASKS:  # "STSBenchmark.v2" is not a file with a suffix
            name = f"{kind}-{rest if kind == 'mteb' else Path(rest).stem}"
        elif kind == "nanobeir":
            name = f"nano-{name}"
        if name in found:
            raise UserError(f"--on {source}: {name!r} is already the name of {found[name]}; rename one of the two")
        found[name] = source
    return found


def _measure_task(source: str, systems: Systems, model: str, folder: Path) -> TaskResult:
    """One task's result for one model, measured or read from its folder."""
    kind, _, name = source.partition(":")
    where = Path(name)
    inputs = {
        "task": source,
        "file": text_files.read_text(where) if where.is_file() else None,
        "model": models.fingerprint(systems.models[model]),
        "dtype": systems.dtype,
    }

    def work(out: Path) -> dict[str, Any]:
        write_json(out / "result.json", TASKS[kind](name, systems.models[model], systems.dtype))
        return {}

    stage("benchmark", folder / model, inputs, work)
    return TaskResult(**read_json(folder / model / "result.json"))


def _retrieve(
    name: str, dataset: Dataset, queries: Texts, systems: Systems, folder: Path, depth: int
) -> dict[str, Run]:
    """Every system's Run of a dataset's queries, retrieved or read from its folder."""
    common = {"documents": dataset.documents.fingerprint, "queries": queries.fingerprint, "depth": depth}
    options = RetrieveConfig().bm25
    lexical = {**common, "retrieve": options}
    found = {
        "bm25": _run_stage(folder / "bm25", lexical, lambda: BM25(dataset.documents, **options).search(queries, depth))
    }
    for system, model in systems.models.items():
        vectors, similarity = folder / system / "vectors", models.similarity(model)
        embedded = embed(model, dataset.documents, vectors, systems.dtype)
        inputs = {**common, "vectors": embedded["fingerprint"], "similarity": similarity}
        retrieve = partial(exact.search, Embeddings.open(vectors), model, queries, depth, similarity, systems.dtype)
        found[system] = _run_stage(folder / system / "search", inputs, retrieve)
    return found | {run: Run.load(file.replace("{dataset}", name)) for run, file in systems.runs.items()}


def _run_stage(folder: Path, inputs: dict[str, Any], retrieve: Callable[[], Run]) -> Run:
    def work(out: Path) -> dict[str, Any]:
        found = retrieve()
        found.save(out / "run.parquet")
        return {"queries": len(found.query_ids), "documents": len(found)}

    stage("search", folder, inputs, work)
    return Run.load(folder / "run.parquet")
