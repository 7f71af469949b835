"""``distill``: teacher scores in, a trained student out, on the Hugging Face trainer.

The order of training is fixed before it starts, so a training that was killed at any step and started again yields the
same student. Knows students, groups and objectives; must not know how candidates were found or scored.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from retrieval_distill import weights
from retrieval_distill.config import Recipe
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.errors import UserError
from retrieval_distill.objectives.scale import check_scale
from retrieval_distill.runtime.stages import write_json
from retrieval_distill.student import adapter, build
from retrieval_distill.training import (
    CHECKPOINTS,
    dev_retrieval,
    distributed,
    frozen_layers,
    group_ranking,
    missing_scores,
    plan,
    training_log,
)
from retrieval_distill.training.agreement import Agreement
from retrieval_distill.training.batches import Collator, DrawDataset
from retrieval_distill.training.checkpoints import LogAtCheckpoints, MarkComplete, resume
from retrieval_distill.training.cross_batch_memory import Memory, MemoryCollator
from retrieval_distill.training.dev_retrieval import DevSet
from retrieval_distill.training.distillation_model import DistillationModel
from retrieval_distill.training.distillation_trainer import DistillationTrainer
from retrieval_distill.training.early_stopping import StopEarly
from retrieval_distill.training.groups import Draw, Group, build_groups, summarize_ids, uniformly_scored
from retrieval_distill.training.lexical_term import LexicalTerm, Scores
from retrieval_distill.training.objective_mix import objective_mix
from retrieval_distill.training.trackers import trackers
from retrieval_distill.training.trainer_arguments import arguments, dtype
from retrieval_distill.training.weight_average import WeightAverage

logger = logging.getLogger("retrieval_distill")


def distill(
    training_set: TrainingSet,
    recipe: Recipe,
    folder: Path,
    dev: DevSet | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    bm25: Scores | None = None,
) -> dict[str, Any]:
    """Train a student on a teacher's scores and save it to ``folder`` (a sentence-transformers model).

    When started by ``torchrun`` or ``accelerate launch``, the processes train one student together and the first one
    saves it; your own script should call ``retrieval_distill.runtime.processes.leave()`` at its end.

    Args:
        training_set: Scored candidates, judgements and texts.
        recipe: Sections ``student``, ``objectives``, ``views``, ``embedding_teacher``, ``training`` and ``seed``; with
            ``dev`` also ``evaluate``.
        folder: Where the student is saved. Its subfolder ``checkpoints`` holds all that a resumed training reads:
            checkpoints, token ids, topics, an embedding teacher's vectors; the caller removes it when the student is
            safe.
        dev: Dev queries for ``training.evaluate_steps``; ``None``: there are none.
        callbacks: Additional callbacks for the trainer.
        bm25: BM25 over the documents, for ``training.lexical_weight``; ``None``: there is none.

    Returns:
        Counts: groups, steps, the step whose weights were kept, queries and tokens seen, parameters, dimensions, the
        agreement with the teacher before and after training, and the number of truncated texts.

    Raises:
        UserError: Teacher scores are missing or out of the student's reach; dev queries or BM25 are needed and missing;
            or a loss or gradient is NaN or infinite: the message names the step, its queries and the last good
            checkpoint, which is kept.
    """
    if recipe.training.evaluate_steps and dev is None:
        raise UserError("training.evaluate_steps needs dev queries; give some, or leave it out")
    if recipe.training.lexical_weight and bm25 is None:
        raise UserError("training.lexical_weight needs BM25 over the documents; give it, or leave it out")
    objective_mix(recipe)
    distributed.join()
    groups = _groups(training_set, recipe)
    torch.manual_seed(recipe.seed)
    logger.info("%s training queries; making the student of %s", f"{len(groups):,}", recipe.student.model)
    student = _student(groups, training_set, recipe)
    texts = plan.training_texts(groups, training_set)
    lexical = None
    if bm25 is not None and recipe.training.lexical_weight:
        lexical = LexicalTerm.from_weight(bm25, recipe.training.lexical_weight, groups, texts["query"])
    collator = plan.build_collator(student, groups, texts, training_set.qrels, recipe, folder / CHECKPOINTS, lexical)
    cut = distributed.broadcast_from_first(lambda: plan.count_truncated(student, texts, recipe))
    draws = plan.schedule_draws(student, groups, training_set.queries, recipe, folder / CHECKPOINTS / "topics")
    training = _training(student, collator, draws, recipe, folder, dev, lexical)
    for callback in callbacks:
        training.trainer.add_callback(callback)
    start = distributed.broadcast_from_first(lambda: training.measure_agreement("before training"))
    resume(training.trainer, "training the student", recipe.training.patience)
    return distributed.broadcast_from_first(lambda: {**training.finish(start), "truncated": cut})


@dataclass(eq=False)
class Training:
    """A training in progress."""

    trainer: DistillationTrainer
    student: SentenceTransformer
    average: WeightAverage | None
    agreement: Agreement
    recipe: Recipe
    folder: Path

    def finish(self, start: dict[str, float]) -> dict[str, Any]:
        """Save the best or last weights, or their average, and the log; return the counts."""
        state, config = self.trainer.state, self.recipe.training
        kept = state.best_global_step or state.global_step
        self._take_weights(kept)
        end = self.measure_agreement("after training")
        logger.info("saving the student, with the weights of step %d", kept)
        adapter.merge(self.student)
        weights.save(self.student, self.folder)
        write_json(self.folder / "training_log.json", training_log.rows(state.log_history, kept, end))
        return {
            "groups": len(self.agreement.collator.groups),
            "steps": state.global_step,
            "kept_step": kept,
            "queries": state.global_step * config.queries_per_step * config.gradient_accumulation * distributed.count(),
            "tokens": training_log.tokens(state.log_history),
            "parameters": build.parameters(self.student),
            "dimensions": self.student.get_embedding_dimension(),
            "agreement": {"start": start, "end": end},
        }

    def measure_agreement(self, when: str) -> dict[str, float]:
        """The student's current agreement with its teacher."""
        if self.agreement.lists:
            logger.info("measuring the student's agreement with its teacher %s", when)
        return self.agreement(self.student)

    def _take_weights(self, step: int) -> None:
        checkpoint = self.folder / CHECKPOINTS / f"checkpoint-{step}"
        if self.average:
            self.average.load(checkpoint)
            self.student.load_state_dict(self.average.student.state_dict())
        else:
            # the library's own load_best_model_at_end only logs when it fails
            self.trainer._load_from_checkpoint(str(checkpoint))


def _groups(training_set: TrainingSet, recipe: Recipe) -> list[Group]:
    """The training groups; logs a warning for everything that looks wrong."""
    scored = missing_scores.check_magnitudes(training_set.scored)
    scored = missing_scores.resolve(scored, recipe.training.missing_scores)
    groups = build_groups(scored, training_set.qrels)
    if alike := uniformly_scored(groups):
        logger.warning("training queries whose candidates all have the same teacher score: %s", summarize_ids(alike))
    scores = [np.array(group.scores) for group in groups]
    for warning in check_scale(scores, recipe.student.similarity, recipe.student.scale, recipe.objectives):
        logger.warning(warning)
    return groups


def _student(groups: list[Group], training_set: TrainingSet, recipe: Recipe) -> SentenceTransformer:
    queries = training_set.queries.select([group.query_id for group in groups])
    student = build.build(
        recipe.student,
        {"query": queries, "document": training_set.documents},
        partial(group_ranking.ndcg, groups=groups, training_set=training_set),
    )
    if recipe.training.dropout is not None:
        build.set_dropout(student, recipe.training.dropout)
    if recipe.training.frozen_layers:
        frozen_layers.freeze(student, recipe.training.frozen_layers)
    return student


def _training(
    student: SentenceTransformer,
    collator: Collator,
    draws: list[Draw],
    recipe: Recipe,
    folder: Path,
    dev: DevSet | None,
    lexical: LexicalTerm | None,
) -> Training:
    """The trainer with its callbacks."""
    config, computed = recipe.training, dtype(recipe.training)
    objectives, views = objective_mix(recipe)
    vectors = collator.teacher_vectors if "embedding" in objectives.parts else None
    agreement = Agreement.sample(
        config.agreement_queries, collator.groups, collator, recipe.student.scale, computed, recipe.seed
    )
    average = None if config.ema is None else WeightAverage(student, config.ema)
    memory = Memory() if config.memory else None
    measure = recipe.evaluate.measures[0]
    logged = dev_retrieval.log_key(measure) if config.evaluate_steps else None

    def evaluation() -> dict[str, float]:
        assert dev is not None
        current = average.student if average else student
        options = dev, measure, recipe.evaluate.depth, lexical, recipe.student.scale
        return {**dev_retrieval.measure(current, *options), **agreement(current)}

    early = StopEarly(logged, config.patience) if logged else None
    listening = [early, LogAtCheckpoints(), average, memory, MarkComplete()]
    step = config.queries_per_step * distributed.count() * config.gradient_accumulation
    steps = len(draws) // step
    model = DistillationModel(
        student, objectives, recipe.student.scale, computed, config.cache_texts, views,
        vectors.dimensions if vectors else None, memory,
    )  # fmt: skip
    args: TrainingArguments = arguments(
        config, steps, recipe.seed, logged, folder / CHECKPOINTS,
        per_device_train_batch_size=config.queries_per_step, gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate, eval_steps=config.evaluate_steps, save_steps=config.save_steps,
        remove_unused_columns=False,
    )  # fmt: skip
    trainer = DistillationTrainer(
        model=model,
        args=args,
        train_dataset=DrawDataset(range(len(draws)) if config.memory else draws),
        eval_dataset=dev,
        data_collator=MemoryCollator(collator, draws, config.memory, step) if config.memory else collator,
        callbacks=[*filter(None, listening), *trackers(config.report_to, folder)],
        evaluation=evaluation,
        layer_decay=config.layer_decay,
    )
    trainer.pop_callback(PrinterCallback)
    return Training(trainer, student, average, agreement, recipe, folder)
