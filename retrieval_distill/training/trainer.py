"""``distill``: teacher scores in, a trained student out, on the Hugging Face trainer.

Knows students, groups and objectives; must not know how candidates were found or who scored them. The order of
training is fixed before it starts, so a training killed at any step and started again ends with the same student.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from retrieval_distill import hardware, models
from retrieval_distill.artifacts import write_json
from retrieval_distill.config import Recipe, TrainingConfig
from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.objectives.scale import check_scale
from retrieval_distill.progress import progress
from retrieval_distill.retrieval.run import Run
from retrieval_distill.student import adapter, build, encoder
from retrieval_distill.training import ranks, untrained
from retrieval_distill.training.asked import asked
from retrieval_distill.training.batches import Collator, DrawDataset, TokenizedTexts
from retrieval_distill.training.checkpoints import LogAtCheckpoints, MarkWhole, last_whole
from retrieval_distill.training.groups import Group, build_groups, schedule
from retrieval_distill.training.loop import DistillationTrainer
from retrieval_distill.training.model import DistillationModel
from retrieval_distill.training.teacher_vectors import TeacherVectors, teacher_vectors

logger = logging.getLogger("retrieval_distill")


def distill(
    teacher_run: Run, qrels: Qrels, queries: Texts, documents: Texts, recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Train a student on a teacher's scores and save it to ``folder`` (a sentence-transformers model).

    Started by ``torchrun`` or ``accelerate launch``, the processes train one student together and the first saves it.

    Args:
        teacher_run: Candidates of the training queries under raw teacher logits.
        qrels: Judgements of the training split.
        queries: Texts of the training queries.
        documents: Texts of the candidates.
        recipe: Sections ``student``, ``objectives``, ``views``, ``embedding_teacher``, ``training`` and ``seed`` are
            used.
        folder: Where the student goes; checkpoints live in ``checkpoints`` beside it until it is finished.

    Returns:
        Counts: groups, steps, queries seen, parameters, dimensions.

    Raises:
        UserError: The teacher's scores are out of the student's reach; or a loss or gradient was no finite number:
            the message names the step, its queries and the last good checkpoint, which is kept.
    """
    config = recipe.training
    groups = build_groups(teacher_run, qrels)
    objectives, views = asked(recipe)
    scores = [np.array(group.scores) for group in groups]
    for warning in check_scale(scores, recipe.student.similarity, recipe.student.scale, objectives):
        logger.warning(warning)
    batches = config.gradient_accumulation * ranks.count()  # of an optimiser step
    steps = config.steps or max(1, round(config.epochs * len(groups) / (batches * config.queries_per_step)))
    checkpoints = folder / "checkpoints"
    arguments = _arguments(config, steps, recipe.seed, checkpoints)
    asked_queries, candidates = _texts(groups, queries, documents)
    with arguments.main_process_first(local=False):
        vectors = teacher_vectors(recipe, asked_queries, candidates, folder / "teacher-vectors")
    torch.manual_seed(recipe.seed)
    student = build.build(
        recipe.student,
        {"query": queries.select([group.query_id for group in groups]), "document": documents},
        partial(untrained.ndcg, groups=groups, qrels=qrels, queries=queries, documents=documents),
    )
    if config.dropout is not None:
        build.set_dropout(student, config.dropout)
    draws = schedule(groups, steps * batches, config.queries_per_step, config.candidates, recipe.seed)
    trainer = DistillationTrainer(
        model=DistillationModel(
            student,
            objectives,
            recipe.student.scale,
            _dtype(config),
            config.cache_texts,
            views,
            vectors.dimensions if vectors and "embedding" in objectives.parts else None,
        ),
        args=arguments,
        train_dataset=DrawDataset(draws),
        data_collator=_collator(student, groups, qrels, asked_queries, candidates, config.max_length, vectors),
        callbacks=[MarkWhole(), LogAtCheckpoints()],
    )
    trainer.pop_callback(PrinterCallback)
    with arguments.main_process_first(local=False):
        last = last_whole(checkpoints)
    with ExitStack() as stack:
        done = int(last.name.split("-")[1]) if last else 0
        shown = steps if trainer.is_world_process_zero() else done
        trainer.add_callback(Advance(stack.enter_context(progress("training the student", shown, "steps", done))))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    adapter.merge(student)
    if trainer.is_world_process_zero():
        with models.quietly():
            student.save_pretrained(str(folder))
        write_json(folder / "training_log.json", [row for row in trainer.state.log_history if "loss" in row])
        for working in (checkpoints, folder / "teacher-vectors"):
            shutil.rmtree(working, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return {
        "groups": len(groups),
        "steps": steps,
        "queries": len(draws),
        "parameters": build.parameters(student),
        "dimensions": student.get_embedding_dimension(),
    }


class Advance(TrainerCallback):
    """Passes the trainer's steps on to our progress."""

    def __init__(self, advance: Any) -> None:
        self.advance = advance

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        self.advance(1)


def _dtype(config: TrainingConfig) -> torch.dtype | None:
    fast = hardware.has_fast_bfloat16(hardware.device()) if config.bf16 is None else config.bf16
    return torch.bfloat16 if fast else None


def _arguments(config: TrainingConfig, steps: int, seed: int, folder: Path) -> TrainingArguments:
    device = hardware.device()
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=config.queries_per_step,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        warmup_steps=max(1, round(config.warmup * steps)) if config.warmup else 0,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=5,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=device == "cpu",
        dataloader_pin_memory=False,
        seed=seed,
    )


def _texts(groups: list[Group], queries: Texts, documents: Texts) -> tuple[Texts, Texts]:
    """The queries and the distinct candidates of the groups."""
    doc_ids = dict.fromkeys(doc for group in groups for doc in group.doc_ids)
    return queries.select([group.query_id for group in groups]), documents.select(list(doc_ids))


def _collator(
    student: SentenceTransformer,
    groups: list[Group],
    qrels: Qrels,
    queries: Texts,
    documents: Texts,
    max_length: int | None,
    vectors: TeacherVectors | None,
) -> Collator:
    """Cut every text of the training once, at the training's length (``None``: the student's)."""
    cut_queries = TokenizedTexts(queries.rows, encoder.tokens_of(student, queries.take(), "query", max_length))
    cut_documents = TokenizedTexts(documents.rows, encoder.tokens_of(student, documents.take(), "document", max_length))
    return Collator(groups, cut_queries, cut_documents, qrels, vectors)
