"""``fit-teacher``: fine-tunes a cross-encoder on judged queries of a domain.

Knows Runs, judgements and the files of a finished teacher; must not know losses or model architecture.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.config.fit_teacher import FitTeacherConfig
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.data.unknown_ids import refuse_unknown
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.significance import differences_with_intervals, mean_with_interval, paired_p
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import stages
from retrieval_distill.runtime.stages import Manifest
from retrieval_distill.teacher.fitting import list_trainer
from retrieval_distill.teacher.fitting import trainable_model as fit_model
from retrieval_distill.teacher.fitting.list_trainer import LOGGED, MEASURE, DevEvaluator, ListCollator
from retrieval_distill.training import CHECKPOINTS
from retrieval_distill.training.groups import build_groups, schedule

logger = logging.getLogger("retrieval_distill")

NEEDED = (
    "fit-teacher needs judged training queries, each with a text and a relevant document "
    "(generated queries will do too: train=generated)"
)

BASELINE = "baseline.json"
"""File with the dev measure before training; removed when the fit is finished."""


def fit_teacher(
    config: FitTeacherConfig, training_set: TrainingSet, dev: TrainingSet | None, folder: str | Path
) -> Manifest:
    """Fine-tune a cross-encoder on candidates and judgements; a killed fit continues, a finished one is kept.

    Args:
        config: The model and the options of the training.
        training_set: Candidates of the training queries, including relevant ones, hardest first; scores do not matter.
        dev: The same for dev queries, on which the best weights are chosen. ``None``: the last weights are kept.
        folder: Where the teacher is saved; ``retrieval_distill.load_teacher(folder)`` loads it.

    Raises:
        UserError: No training query is judged, a text is missing, or there is no such model.
    """
    if not any(grade > 0 for judged in training_set.qrels.values() for grade in judged.values()):
        raise UserError(f"{NEEDED}; no training query has one")
    for one in filter(None, (training_set, dev)):
        refuse_unknown(one.scored, one.queries, one.documents, "the candidates or judgements")
    named = training_set.inputs
    inputs = {
        "candidates": named["scores"],
        "texts": named["texts"],
        "qrels": named["qrels"],
        "dev": stages.fingerprint([dev.scored.frame.to_csv(index=False), dev.qrels]) if dev else None,
        "model": models.fingerprint(config.model),
        "config": config.model_dump(mode="json"),
    }
    scratch = (CHECKPOINTS, BASELINE)
    return stages.stage(
        "fit-teacher", folder, inputs, lambda out: _fit(config, training_set, dev, out), scratch=scratch
    )


def _fit(config: FitTeacherConfig, training_set: TrainingSet, dev: TrainingSet | None, out: Path) -> dict[str, Any]:
    groups = build_groups(training_set.scored, training_set.qrels)
    steps = config.steps or max(1, round(config.epochs * len(groups) / config.queries_per_step))
    draws = schedule(groups, steps, config.queries_per_step, config.candidates, config.seed)
    model = fit_model.build(config)
    collator = ListCollator(
        model.preprocess, groups=groups, draws=draws, queries=training_set.queries, documents=training_set.documents,
        loss=config.loss,
    )  # fmt: skip
    evaluator = (
        DevEvaluator(dev.scored, dev.qrels, dev.queries, dev.documents, list_trainer.uses_bf16(config)) if dev else None
    )
    before = _baseline(evaluator, model, out) if evaluator else None
    state = list_trainer.train(model, collator, evaluator, config, steps, out / CHECKPOINTS)
    counts: dict[str, Any] = {
        "groups": len(groups),
        "steps": state.global_step,
        "best_step": state.best_global_step if evaluator else state.global_step,
        "parameters_trained": fit_model.trained_parameters(model),
        "dev": _verdict(before, evaluator.values(model), config.model) if evaluator and before is not None else None,
    }
    fit_model.save(model, config, out)
    history = [
        {"step": row["step"], "loss": row.get("loss"), MEASURE: row.get(LOGGED)}
        for row in state.log_history
        if "loss" in row or LOGGED in row
    ]
    stages.write_json(out / "fit_log.json", {**counts, "history": history})
    (out / "README.md").write_text(_card(config, counts), encoding="utf-8")
    return counts


def _baseline(dev: DevEvaluator, model: Any, out: Path) -> np.ndarray:
    """The dev measure before training, measured once even if the fit is killed."""
    path = out / BASELINE
    if not path.is_file():
        stages.write_json(path, dev.values(model).tolist())
    return np.array(stages.read_json(path))


def _verdict(before: np.ndarray, after: np.ndarray, model: str) -> dict[str, Any]:
    """The dev measure before and after training, with intervals; logs a warning if it got worse."""
    p = paired_p(after, before)
    difference = differences_with_intervals({"": after - before}, {"": p})[""]  # of the same test, so that it agrees
    line = (
        f"{model!r} on {counted(len(after), 'dev query')}: {MEASURE} {before.mean():.3f} before, {after.mean():.3f} "
        f"after (difference {difference.mean:+.3f}, 95 % interval {difference.low:+.3f} to {difference.high:+.3f})"
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
        "p": p,
    }


def _card(config: FitTeacherConfig, counts: dict[str, Any]) -> str:
    """The model card: base model, data, results, options and usage."""
    dev = counts["dev"]
    numbers = "No dev queries were given: these are the last weights, and nothing was measured."
    if dev:
        asked = counted(dev["queries"], "dev query")
        lines = [f"| {asked}, candidates reranked | {MEASURE} | 95 % interval |", "|---|---|---|"]
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
