"""``fit-teacher``: judged queries in, a cross-encoder that knows the domain out.

Knows Runs, judgements and what a finished folder holds; must not know losses or model architecture.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.data import generated
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import mean_with_interval, paired_p
from retrieval_distill.runtime import destination, stages
from retrieval_distill.runtime.stages import Manifest
from retrieval_distill.teacher.fitting import model as fit_model
from retrieval_distill.teacher.fitting import training
from retrieval_distill.teacher.fitting.training import LOGGED, MEASURE, DevQueries, ListCollator
from retrieval_distill.training.groups import build_groups, schedule, with_relevant

logger = logging.getLogger("retrieval_distill")

NEEDED = (
    "fit-teacher needs judged training queries, each with a text and a relevant document "
    "(queries written by a model will do in a later version)"
)

TRAIN_DEPTH = 30
"""Candidates per training query, from which its hard negatives are drawn."""


def fit_on(
    dataset: Dataset,
    config: FitTeacherConfig,
    folder: str | Path,
    bi_encoder: str | None = None,
    train: str = "train",
    dev: str | None = "dev",
) -> Manifest:
    """Fine-tune a cross-encoder on a dataset's judgements; candidates are found here.

    Args:
        dataset: Texts and judgements.
        config: What to train and how.
        folder: Where the teacher goes; candidates are kept beside it, in ``FOLDER-candidates``.
        bi_encoder: Its search is fused with BM25's; ``None``: BM25 alone.
        train: Split to learn from.
        dev: Split that tells which weights are best; ``None``, or one the dataset lacks: the last weights are kept.

    Returns:
        The manifest; its ``counts`` hold ``dev``: the measure before and after, with its doubt.

    Raises:
        UserError: No training query is judged, or the model is not to be had.
    """
    folder = Path(folder)
    destination.stage(folder, "fit-teacher")
    qrels = {"train": _judged(dataset, train)}
    if dev is not None and dev in dataset.qrels:
        qrels["dev"] = _sample(_judged(dataset, dev), config.dev_queries, config.seed)
    found = folder.with_name(f"{folder.name}-candidates")
    depth = max(TRAIN_DEPTH, config.dev_depth)
    inputs = {
        "texts": [dataset.documents.fingerprint, dataset.queries.fingerprint],
        "queries": stages.fingerprint([list(judged) for judged in qrels.values()]),
        "bi_encoder": models.fingerprint(bi_encoder) if bi_encoder else None,
        "depth": depth,
    }
    stages.stage("retrieve", found, inputs, lambda out: _retrieve(dataset, qrels, depth, bi_encoder, out))
    runs = {split: Run.load(found / f"{split}.parquet") for split in qrels}
    asked = (with_relevant(runs["dev"].top(config.dev_depth), qrels["dev"]), qrels["dev"]) if "dev" in qrels else None
    candidates = generated.renamed(with_relevant(runs["train"].top(TRAIN_DEPTH), qrels["train"]), dataset)
    seen = generated.as_trained(dataset, train)
    return fit_teacher(config, candidates, _judged(seen, train), dataset.queries, seen.documents, asked, folder)


def fit_teacher(
    config: FitTeacherConfig,
    candidates: Run,
    qrels: Qrels,
    queries: Texts,
    documents: Texts,
    dev: tuple[Run, Qrels] | None,
    folder: str | Path,
) -> Manifest:
    """Fine-tune a cross-encoder on candidates and judgements; a killed fit continues, a finished one is kept.

    Args:
        config: What to train and how.
        candidates: Documents of the training queries, relevant ones among them, hardest first.
        qrels: Judgements of the training queries.
        queries: Texts of the training and dev queries.
        documents: Texts of the candidates.
        dev: Candidates and judgements of other queries: the weights that rerank these best are the ones kept.
        folder: Where the teacher goes; ``retrieval_distill.load_teacher(folder)`` loads it.

    Raises:
        UserError: No training query is judged, a text is missing, or the model is not to be had.
    """
    if not any(grade > 0 for judged in qrels.values() for grade in judged.values()):
        raise UserError(f"{NEEDED}; no training query has one")
    for run in [candidates, *([dev[0]] if dev else [])]:
        _require_texts(run, queries, documents)
    inputs = {
        "candidates": stages.fingerprint(candidates.frame.to_csv(index=False)),
        "texts": [documents.fingerprint, queries.fingerprint],
        "qrels": stages.fingerprint(qrels),
        "dev": stages.fingerprint([dev[0].frame.to_csv(index=False), dev[1]]) if dev else None,
        "model": models.fingerprint(config.model),
        "config": config.model_dump(mode="json"),
    }

    def work(out: Path) -> dict[str, Any]:
        return _fit(config, candidates, qrels, queries, documents, dev, out)

    return stages.stage("fit-teacher", folder, inputs, work)


def _fit(
    config: FitTeacherConfig,
    candidates: Run,
    qrels: Qrels,
    queries: Texts,
    documents: Texts,
    dev: tuple[Run, Qrels] | None,
    out: Path,
) -> dict[str, Any]:
    groups = build_groups(candidates, qrels)
    steps = config.steps or max(1, round(config.epochs * len(groups) / config.queries_per_step))
    draws = schedule(groups, steps, config.queries_per_step, config.candidates, config.seed)
    model = fit_model.build(config)
    collator = ListCollator(
        model.preprocess, groups=groups, draws=draws, queries=queries, documents=documents, loss=config.loss
    )
    asked = DevQueries(*dev, queries, documents, training.uses_bf16(config)) if dev else None
    before = _baseline(asked, model, out) if asked else None
    state = training.train(model, collator, asked, config, steps, out / "checkpoints")
    counts: dict[str, Any] = {
        "groups": len(groups),
        "steps": state.global_step,
        "best_step": state.best_global_step if asked else state.global_step,
        "parameters_trained": fit_model.trained_parameters(model),
        "dev": _verdict(before, asked.values(model), config.model) if asked and before is not None else None,
    }
    fit_model.save(model, config, out)
    history = [
        {"step": row["step"], "loss": row.get("loss"), MEASURE: row.get(LOGGED)}
        for row in state.log_history
        if "loss" in row or LOGGED in row
    ]
    stages.write_json(out / "fit_log.json", {**counts, "history": history})
    (out / "README.md").write_text(_card(config, counts), encoding="utf-8")
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    (out / "baseline.json").unlink(missing_ok=True)
    return counts


def _baseline(dev: DevQueries, model: Any, out: Path) -> np.ndarray:
    """The dev measure before training, asked once even if the fit is killed."""
    path = out / "baseline.json"
    if not path.is_file():
        stages.write_json(path, dev.values(model).tolist())
    return np.array(stages.read_json(path))


def _verdict(before: np.ndarray, after: np.ndarray, model: str) -> dict[str, Any]:
    """The dev measure before and after training, with its doubt; worse is said aloud."""
    difference = mean_with_interval(after - before)
    line = (
        f"{model!r} on {len(after)} dev queries: {MEASURE} {before.mean():.3f} before, {after.mean():.3f} after "
        f"(difference {difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f})"
    )
    if difference.mean < 0:
        logger.warning("%s: the fitted teacher got WORSE; try a lower learning_rate, more data or another loss", line)
    else:
        logger.info(line)
    return {
        "measure": MEASURE,
        "queries": len(after),
        "before": asdict(mean_with_interval(before)),
        "after": asdict(mean_with_interval(after)),
        "difference": asdict(difference),
        "p": paired_p(after, before),
    }


def _judged(dataset: Dataset, split: str) -> Qrels:
    """The judgements of a split's queries that have a text and a relevant document."""
    if split not in dataset.qrels:
        splits = ", ".join(dataset.qrels) or "none"
        raise UserError(f"{NEEDED}; dataset {dataset.name!r} has no split {split!r}, it has: {splits}")
    judged = dataset.split(split)
    kept = {id_: judged[id_] for id_ in dataset.queries_of(split) if any(grade > 0 for grade in judged[id_].values())}
    if not kept:
        raise UserError(f"{NEEDED}; split {split!r} of dataset {dataset.name!r} has none")
    return kept


def _sample(qrels: Qrels, count: int, seed: int) -> Qrels:
    ids = list(qrels)
    if count >= len(ids):
        return qrels
    return {ids[row]: qrels[ids[row]] for row in sorted(np.random.default_rng(seed).choice(len(ids), count, False))}


def _retrieve(
    dataset: Dataset, qrels: dict[str, Qrels], depth: int, bi_encoder: str | None, out: Path
) -> dict[str, Any]:
    """Candidates of every split, a query's own document left out, as in evaluation."""
    from retrieval_distill import api

    if bi_encoder:
        api.embed(bi_encoder, dataset.documents, out / "embeddings")
        api.index(out / "embeddings", out / "index")
    queries = dataset.queries.select(list(dict.fromkeys(id_ for judged in qrels.values() for id_ in judged)))
    index = out / "index" if bi_encoder else None
    run = api.retrieve(dataset.documents, queries, depth, index, bi_encoder)
    found = Run(run.frame[run.frame["query_id"] != run.frame["doc_id"]].reset_index(drop=True))
    for split, judged in qrels.items():
        found.select(list(judged)).save(out / f"{split}.parquet")
    for used in ("embeddings", "index"):
        shutil.rmtree(out / used, ignore_errors=True)
    return {"queries": len(queries), "pairs": len(found)}


def _require_texts(run: Run, queries: Texts, documents: Texts) -> None:
    for column, texts, what in (("query_id", queries, "query"), ("doc_id", documents, "document")):
        unknown = [id_ for id_ in run.frame[column].unique() if id_ not in texts]
        if unknown:
            raise UserError(
                f"the candidates or judgements name {len(unknown)} {what} ids that the dataset does not have: "
                f"{', '.join(map(repr, unknown[:3]))}"
            )


def _card(config: FitTeacherConfig, counts: dict[str, Any]) -> str:
    """The model card: base, data, numbers, how it was made and how it is used."""
    dev = counts["dev"]
    numbers = "No dev queries were given: these are the last weights, and nothing was measured."
    if dev:
        lines = [f"| {dev['queries']} dev queries, candidates reranked | {MEASURE} | 95 % interval |", "|---|---|---|"]
        for when in ("before", "after"):
            lines.append(f"| {when} | {dev[when]['mean']:.3f} | {dev[when]['low']:.3f}-{dev[when]['high']:.3f} |")
        lines += ["", f"The weights are those of step {counts['best_step']}, the best on these same queries: a little"]
        lines += ["flattering. Candidates that `fit-teacher` finds itself always include the relevant documents."]
        numbers = "\n".join(lines)
    kind = "A LoRA adapter, merged at load," if config.adapter == "lora" else "A whole cross-encoder,"
    return f"""# A fitted teacher

{kind} trained from `{config.model}` by `retrieval-distill fit-teacher`: query and passage in, one raw logit out.
Load it with `retrieval_distill.load_teacher("THIS FOLDER")`.

## Data

{counts["groups"]:,} judged training queries, {counts["steps"]:,} steps of {config.queries_per_step} queries with
{config.candidates} candidates each (one relevant, the others drawn from first-stage retrieval).

## Numbers

{numbers}

## Options

```json
{json.dumps(config.model_dump(mode="json"), indent=2)}
```
"""
