"""``distill``: teacher scores in, a trained student out, on the Hugging Face trainer.

Knows students, groups and objectives; must not know how candidates were found or who scored them. The order of
training is fixed before it starts, so a training killed at any step and started again ends with the same student.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import PrinterCallback, TrainerCallback, TrainerState

from retrieval_distill import weights
from retrieval_distill.config import Recipe
from retrieval_distill.data.training_set import TrainingSet
from retrieval_distill.errors import UserError
from retrieval_distill.objectives.scale import check_scale
from retrieval_distill.runtime.progress import progress
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
from retrieval_distill.training.checkpoints import Advance, LogAtCheckpoints, MarkWhole, last_whole, reached, telling
from retrieval_distill.training.cross_batch_memory import Memory, Recalling
from retrieval_distill.training.dev_retrieval import DevSet
from retrieval_distill.training.distillation_model import DistillationModel
from retrieval_distill.training.distillation_trainer import DistillationTrainer
from retrieval_distill.training.early_stopping import StopEarly, exhausted
from retrieval_distill.training.groups import Draw, Group, build_groups, counted, indifferent
from retrieval_distill.training.lexical_term import Lexical, Scores
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

    Started by ``torchrun`` or ``accelerate launch``, the processes train one student together and the first saves it;
    a script of your own calls ``retrieval_distill.runtime.processes.leave()`` last.

    Args:
        training_set: Scored candidates, judgements and texts.
        recipe: Sections ``student``, ``objectives``, ``views``, ``embedding_teacher``, ``training`` and ``seed`` are
            used, and ``evaluate`` with ``dev``.
        folder: Where the student goes; its folder ``checkpoints`` holds what a resumed training reads: checkpoints,
            token ids, topics, an embedding teacher's vectors. It is the caller's to remove, once the student is safe.
        dev: What ``training.evaluate_steps`` evaluates on.
        callbacks: The caller's own, beside ours.
        bm25: BM25 over the documents, for ``training.lexical_weight``; ``None``: there is none.

    Returns:
        Counts: groups, steps taken, the step whose weights were kept, queries seen, parameters, dimensions, the
        agreement with the teacher at the start and in the end, and how many texts were too long and cut.

    Raises:
        UserError: The teacher's scores are missing or out of the student's reach; there are no dev queries to
            evaluate on, or no BM25; or a loss or gradient was no finite number: the message names the step, its
            queries and the last good checkpoint, which is kept.
    """
    if recipe.training.evaluate_steps and dev is None:
        raise UserError("training.evaluate_steps needs dev queries; give some, or leave it out")
    if recipe.training.lexical_weight and bm25 is None:
        raise UserError("training.lexical_weight needs BM25 over the documents; give it, or leave it out")
    objective_mix(recipe)
    groups = _groups(training_set, recipe)
    torch.manual_seed(recipe.seed)
    logger.info("%s training queries; making the student of %s", f"{len(groups):,}", recipe.student.model)
    student = _student(groups, training_set, recipe)
    texts = plan.learnt(groups, training_set)
    lexical = None
    if bm25 is not None and recipe.training.lexical_weight:
        lexical = Lexical.weighted(bm25, recipe.training.lexical_weight, groups, texts["query"])
    collator = plan.collator(student, groups, texts, training_set.qrels, recipe, folder / CHECKPOINTS, lexical)
    cut = distributed.from_first(lambda: plan.cut(student, texts, recipe))
    draws = plan.draws(student, groups, training_set.queries, recipe, folder / CHECKPOINTS / "topics")
    training = _training(student, collator, draws, recipe, folder, dev, lexical)
    for callback in callbacks:
        training.trainer.add_callback(callback)
    start = distributed.from_first(lambda: training.agreed("before training"))
    training.run()
    return distributed.from_first(lambda: {**training.finish(start), "truncated": cut})


@dataclass(eq=False)
class Training:
    """A training under way."""

    trainer: DistillationTrainer
    student: SentenceTransformer
    average: WeightAverage | None
    agreement: Agreement
    measure: str | None
    recipe: Recipe
    folder: Path

    def run(self) -> None:
        """Train, from the last whole checkpoint on where there is one; after the last step there is nothing to do."""
        trainer, folder = self.trainer, self.folder / CHECKPOINTS
        with trainer.args.main_process_first(local=False):
            last = last_whole(folder)
        state = reached(last)
        if self._is_over(state):
            trainer.state = state
            return
        with ExitStack() as stack:
            steps = trainer.args.max_steps if trainer.is_world_process_zero() else state.global_step
            bar = progress("training the student", steps, "steps", state.global_step)
            trainer.add_callback(Advance(stack.enter_context(bar)))
            stack.enter_context(telling(folder))
            trainer.train(resume_from_checkpoint=str(last) if last else None)

    def finish(self, start: dict[str, float]) -> dict[str, Any]:
        """Save the best or last weights, or their average, and the log; give back the counts."""
        state, config = self.trainer.state, self.recipe.training
        kept = state.best_global_step or state.global_step
        self._take_weights(kept)
        end = self.agreed("after training")
        logger.info("saving the student, with the weights of step %d", kept)
        adapter.merge(self.student)
        weights.save(self.student, self.folder)
        write_json(self.folder / "training_log.json", training_log.rows(state.log_history, kept, end))
        return {
            "groups": len(self.agreement.collator.groups),
            "steps": state.global_step,
            "kept_step": kept,
            "queries": state.global_step * config.queries_per_step * config.gradient_accumulation * distributed.count(),
            "parameters": build.parameters(self.student),
            "dimensions": self.student.get_embedding_dimension(),
            "agreement": {"start": start, "end": end},
        }

    def agreed(self, when: str) -> dict[str, float]:
        """The student's agreement with its teacher as it is now."""
        if self.agreement.lists:
            logger.info("asking how far the student agrees with its teacher %s", when)
        return self.agreement(self.student)

    def _is_over(self, state: TrainerState) -> bool:
        """Whether no step is left to take."""
        stopped = self.measure and exhausted(state.log_history, self.measure, self.recipe.training.patience)
        return bool(stopped) or state.global_step >= self.trainer.args.max_steps

    def _take_weights(self, step: int) -> None:
        checkpoint = self.folder / CHECKPOINTS / f"checkpoint-{step}"
        if self.average:
            self.average.load(checkpoint)
            self.student.load_state_dict(self.average.student.state_dict())
        else:
            # the library's own load_best_model_at_end only logs when it fails
            self.trainer._load_from_checkpoint(str(checkpoint))


def _groups(training_set: TrainingSet, recipe: Recipe) -> list[Group]:
    """What is learnt from, with a word on all that looks wrong."""
    scored = missing_scores.refuse_absurd(training_set.scored)
    scored = missing_scores.settle(scored, recipe.training.missing_scores)
    groups = build_groups(scored, training_set.qrels)
    if alike := indifferent(groups):
        logger.warning("training queries all of whose candidates the teacher scores alike: %s", counted(alike))
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
    lexical: Lexical | None,
) -> Training:
    """The trainer with all that listens to it."""
    config, computed = recipe.training, dtype(recipe.training)
    objectives, views = objective_mix(recipe)
    vectors = collator.teacher_vectors if "embedding" in objectives.parts else None
    agreement = Agreement.sample(
        config.agreement_queries, collator.groups, collator, recipe.student.scale, computed, recipe.seed
    )
    average = None if config.ema is None else WeightAverage(student, config.ema)
    memory = Memory() if config.memory else None
    measure = recipe.evaluate.measures[0]
    logged = dev_retrieval.logged_as(measure) if config.evaluate_steps else None

    def evaluation() -> dict[str, float]:
        assert dev is not None
        current = average.student if average else student
        asked = dev, measure, recipe.evaluate.depth, lexical, recipe.student.scale
        return {**dev_retrieval.measured(current, *asked), **agreement(current)}

    early = StopEarly(logged, config.patience) if logged else None
    listening = [early, LogAtCheckpoints(), average, memory, MarkWhole()]
    step = config.queries_per_step * distributed.count() * config.gradient_accumulation
    steps = len(draws) // step
    trainer = DistillationTrainer(
        model=DistillationModel(
            student,
            objectives,
            recipe.student.scale,
            computed,
            config.cache_texts,
            views,
            vectors.dimensions if vectors else None,
            memory,
        ),
        args=arguments(config, steps, recipe.seed, logged, folder / CHECKPOINTS),
        train_dataset=DrawDataset(range(len(draws)) if config.memory else draws),
        eval_dataset=dev,
        data_collator=Recalling(collator, draws, config.memory, step) if config.memory else collator,
        callbacks=[*filter(None, listening), *trackers(config.report_to, folder)],
        evaluation=evaluation,
        layer_decay=config.layer_decay,
    )
    trainer.pop_callback(PrinterCallback)
    return Training(trainer, student, average, agreement, logged, recipe, folder)
