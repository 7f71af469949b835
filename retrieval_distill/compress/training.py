"""``compress``: plain texts and a teacher in, a small encoder out, on the Hugging Face trainer.

Knows the order of the steps; must not know their details. The order of batches is fixed in advance, so a training that
is killed at any step and restarted ends with the same student.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainingArguments

from retrieval_distill import models, weights
from retrieval_distill.compress import backbones, layer_dropping, student_setup, text_batches
from retrieval_distill.compress.captures import shape_of
from retrieval_distill.compress.compression_model import CompressionModel
from retrieval_distill.compress.teacher_cache import TeacherCache
from retrieval_distill.compress.transfer import ModelPair
from retrieval_distill.compress.transfer_mix import Transfers
from retrieval_distill.config import CompressConfig
from retrieval_distill.data.dataset import Texts
from retrieval_distill.data.tokens import Tokens
from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices
from retrieval_distill.runtime.stages import fingerprint, write_json
from retrieval_distill.student import build, encoder
from retrieval_distill.training import CHECKPOINTS, training_log
from retrieval_distill.training.batches import DrawDataset
from retrieval_distill.training.checkpoints import LogAtCheckpoints, MarkComplete, resume
from retrieval_distill.training.distillation_trainer import DistillationTrainer
from retrieval_distill.training.trainer_arguments import arguments, dtype


class CompressionTrainer(DistillationTrainer):
    """The training loop over batches of plain texts."""

    ids_key, ids_noun = "text_ids", "texts"
    nan_advice = "try a lower compress.learning_rate, or compress.bf16=false"

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Loss and gradients of a batch."""
        self.snapshot(inputs)
        try:
            loss = Trainer.training_step(self, model, inputs, *args, **kwargs)
        except RuntimeError as error:
            if not devices.is_out_of_memory(error):
                raise
            raise UserError("not enough memory for a batch; lower compress.tokens_per_step") from None
        self.log_batch()
        return loss

    def remedy(self, inputs: dict[str, Any]) -> str:
        """Advice for a NaN or infinite loss."""
        return self.nan_advice


def compress(config: CompressConfig, plain: Texts, folder: Path, seed: int) -> dict[str, Any]:
    """Train a student and save it to ``folder`` (a sentence-transformers model).

    Args:
        config: The recipe's section; ``model`` or ``teacher`` must be set.
        plain: The texts; titles are included.
        folder: Where the student goes; the caller removes its subfolder ``checkpoints``, from which a killed training
            resumes, once the student is saved.
        seed: Random seed.

    Returns:
        Counts: texts, steps, tokens, parameters, dimensions, layers, width.

    Raises:
        UserError: A model cannot be loaded; an option does not fit the two models; no text is long enough; or a loss or
            gradient is NaN or infinite.
    """
    torch.manual_seed(seed)
    computed = dtype(config)
    teacher = backbones.load(_teacher(config), "float32" if computed is None else "bfloat16")
    student, basis = student_setup.student(config, _model(config), plain, seed)
    layer_dropping.check(student, config.depths)
    pair = ModelPair(shape_of(student), shape_of(teacher), _teacher(config), basis)
    transfers = Transfers(config.transfers, pair)
    collator = _collator(config, student, teacher, transfers.token_by_token, plain, folder / CHECKPOINTS, seed)
    kept = _open_cache(config, transfers, pair, collator.teacher, computed or torch.float32)
    depths = config.depths, config.self_distillation, seed
    model = CompressionModel(student, teacher, transfers, computed, *depths, kept)
    done = _train(config, model, collator, folder, seed)
    model.close()
    weights.save(student, folder)
    return {**done, "parameters": build.parameters(student), **vars(pair.student)}


def _train(
    config: CompressConfig, model: CompressionModel, collator: text_batches.Collator, folder: Path, seed: int
) -> dict[str, int]:
    student, lengths = model.student, collator.student.lengths
    rows = text_batches.usable(student, collator.student)
    size = min(config.tokens_per_step, encoder.TOKENS_PER_BATCH[student.device.type])
    micro = -(-config.tokens_per_step // size)
    batches = text_batches.batches(lengths, rows, size, micro, config.steps, config.tokens, seed)
    args: TrainingArguments = arguments(
        config, len(batches) // micro, seed, None, folder / CHECKPOINTS,
        per_device_train_batch_size=1, gradient_accumulation_steps=micro, learning_rate=config.learning_rate,
        save_steps=config.save_steps, remove_unused_columns=False,
    )  # fmt: skip
    trainer = CompressionTrainer(
        model=model,
        args=args,
        train_dataset=DrawDataset(batches),
        data_collator=collator,
        callbacks=[LogAtCheckpoints(), MarkComplete()],
    )
    trainer.pop_callback(PrinterCallback)
    state = resume(trainer, "compressing")
    trainer._load_from_checkpoint(str(folder / CHECKPOINTS / f"checkpoint-{state.global_step}"))  # after a kill
    write_json(folder / "training_log.json", training_log.rows(state.log_history, state.global_step, {}))
    tokens = sum(int(lengths[batch.rows].sum()) for batch in batches)
    return {"texts": len(rows), "steps": state.global_step, "tokens": tokens}


def _collator(
    config: CompressConfig,
    student: SentenceTransformer,
    teacher: SentenceTransformer,
    token_by_token: list[str],
    plain: Texts,
    folder: Path,
    seed: int,
) -> text_batches.Collator:
    tokens = text_batches.tokenize_both(student, teacher, plain, config.max_length, folder / "tokens")
    masks = None
    if config.masked:
        masks = tuple(model.tokenizer.mask_token_id for model in (student, teacher))
        if None in masks:
            raise UserError("compress.masked: the tokenizer has no mask token; leave it out")
        token_by_token = [*token_by_token, "masked texts"]
    if token_by_token:
        text_batches.refuse_misaligned(student, teacher, tokens, token_by_token)
    return text_batches.Collator(plain.ids, *tokens, masks, config.masked, seed)


def _open_cache(
    config: CompressConfig, transfers: Transfers, pair: ModelPair, tokens: Tokens, computed: torch.dtype
) -> TeacherCache | None:
    if config.teacher_cache is None:
        return None
    if config.masked:
        raise UserError(
            "compress.teacher_cache: masked texts change in every pass and cannot be cached; leave one of the two out"
        )
    key = [models.fingerprint(pair.teacher_name), tokens.fingerprint, str(computed)]
    folder = Path(config.teacher_cache) / fingerprint(key)[:16]
    return TeacherCache(folder, transfers.teacher_keys, pair.teacher, tokens, computed)


def _teacher(config: CompressConfig) -> str:
    return config.teacher or _model(config)


def _model(config: CompressConfig) -> str:
    name = config.model or config.teacher
    if name is None:
        raise UserError("compress: set model (the encoder that the student is made from), teacher, or both")
    return name
