"""``distill``: teacher scores in, a trained student out, on the Hugging Face trainer.

Knows students, groups and objectives; must not know how candidates were found or who scored them. The order of
training is fixed before it starts, so a training killed at any step and started again ends with the same student.
"""

from __future__ import annotations

import logging
import shutil
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from retrieval_distill import hardware, models
from retrieval_distill.artifacts import write_json
from retrieval_distill.config import Recipe, TrainingConfig
from retrieval_distill.data.dataset import Qrels, Texts
from retrieval_distill.objectives import CandidateLists, Mix
from retrieval_distill.progress import progress
from retrieval_distill.retrieval.run import Run
from retrieval_distill.student import build, encoder
from retrieval_distill.training.batches import Collator, DrawDataset, TokenizedTexts
from retrieval_distill.training.groups import Group, build_groups, schedule

logger = logging.getLogger("retrieval_distill")

WHOLE = "whole"
"""File that marks a checkpoint written to its end; one without it is torn and is not resumed from."""


def distill(
    teacher_run: Run, qrels: Qrels, queries: Texts, documents: Texts, recipe: Recipe, folder: Path
) -> dict[str, Any]:
    """Train a student on a teacher's scores and save it to ``folder`` (a sentence-transformers model).

    Args:
        teacher_run: Candidates of the training queries under raw teacher logits.
        qrels: Judgements of the training split.
        queries: Texts of the training queries.
        documents: Texts of the candidates.
        recipe: Sections ``student``, ``objectives``, ``training`` and ``seed`` are used.
        folder: Where the student goes; checkpoints live in ``checkpoints`` beside it until it is finished.

    Returns:
        Counts: groups, steps, queries seen, parameters, dimensions.
    """
    config = recipe.training
    groups = build_groups(teacher_run, qrels)
    steps = config.steps or max(1, round(config.epochs * len(groups) / config.queries_per_step))
    torch.manual_seed(recipe.seed)
    student = build.build(recipe.student)
    if config.dropout is not None:
        build.set_dropout(student, config.dropout)
    draws = schedule(groups, steps, config.queries_per_step, config.candidates, recipe.seed)
    checkpoints = folder / "checkpoints"
    trainer = DistillationTrainer(
        model=DistillationModel(student, Mix(recipe.objectives), recipe.student.scale, _dtype(config)),
        args=_arguments(config, steps, recipe.seed, checkpoints),
        train_dataset=DrawDataset(draws),
        data_collator=_collator(student, groups, qrels, queries, documents, config.max_length),
        callbacks=[MarkWhole()],
    )
    trainer.pop_callback(PrinterCallback)
    last = last_whole(checkpoints)
    with ExitStack() as stack:
        done = int(last.name.split("-")[1]) if last else 0
        trainer.add_callback(Advance(stack.enter_context(progress("training the student", steps, "steps", done))))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    with models.quietly():
        student.save_pretrained(str(folder))
    write_json(folder / "training_log.json", [row for row in trainer.state.log_history if "loss" in row])
    shutil.rmtree(checkpoints, ignore_errors=True)
    return {
        "groups": len(groups),
        "steps": steps,
        "queries": len(draws),
        "parameters": build.parameters(student),
        "dimensions": student.get_embedding_dimension(),
    }


class DistillationModel(nn.Module):
    """A student under its objectives: a batch in, the loss and its components out."""

    def __init__(
        self, student: SentenceTransformer, objectives: Mix, scale: float, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.student = student
        self.objectives = objectives
        self.scale = scale

    def forward(self, queries: list[Any], documents: list[Any], **batch: Tensor) -> dict[str, Tensor]:
        """The loss of one step; see :class:`retrieval_distill.training.batches.Collator` for the batch."""
        vectors = encoder.encode_rows(self.student, [*queries, *documents], self.dtype)
        in_batch = self.scale * vectors[: len(queries)] @ vectors[len(queries) :].T
        student = in_batch.gather(1, batch["positions"])
        lists = CandidateLists(
            student, batch["teacher"], batch["labels"], batch["mask"], in_batch, batch["in_batch_labels"]
        )
        loss, components = self.objectives(lists)
        return {"loss": loss, **{name: value.detach() for name, value in components.items()}}


class DistillationTrainer(Trainer):
    """The library's trainer, taking the schedule in order and logging every objective by name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._components: dict[str, list[float]] = defaultdict(list)

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Any:
        """The mix's value, as the trainer asks for it."""
        outputs = model(**inputs)
        for name, value in outputs.items():
            if name != "loss":
                self._components[name].append(float(value))
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the components' means since the last log."""
        if "loss" in logs:
            logs |= {name: sum(values) / len(values) for name, values in self._components.items()}
            self._components.clear()
        super().log(logs, *args, **kwargs)


class MarkWhole(TrainerCallback):
    """Marks a checkpoint once all its files are written."""

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after it wrote a checkpoint."""
        (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / WHOLE).touch()


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


def _collator(
    student: SentenceTransformer,
    groups: list[Group],
    qrels: Qrels,
    queries: Texts,
    documents: Texts,
    max_length: int | None,
) -> Collator:
    """Cut every text of the training once, at the training's length (``None``: the student's)."""
    own = student.max_seq_length or 512
    student.max_seq_length = min(max_length or own, own)
    query_ids = [group.query_id for group in groups]
    doc_ids = list(dict.fromkeys(doc for group in groups for doc in group.doc_ids))
    cut_queries = encoder.tokens_of(student, queries.take(query_ids), "query")
    cut_documents = encoder.tokens_of(student, documents.take(doc_ids), "document")
    student.max_seq_length = own
    return Collator(
        groups,
        TokenizedTexts({id_: row for row, id_ in enumerate(query_ids)}, cut_queries),
        TokenizedTexts({id_: row for row, id_ in enumerate(doc_ids)}, cut_documents),
        qrels,
    )


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint written to its end; torn ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in found:
        if not (path / WHOLE).is_file():
            logger.warning("%s was not written to its end: set aside", path)
            shutil.rmtree(path)
    whole = [path for path in found if path.exists()]
    return whole[-1] if whole else None
