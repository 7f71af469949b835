"""The trainer's arguments from a recipe's training section. Knows both; must not know what is trained."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import TrainingArguments

from retrieval_distill.config import TrainingConfig
from retrieval_distill.hardware import devices

LOGGING_STEPS = 5
"""Steps per row of the log; checkpoints and evaluations end a row too."""


def dtype(config: TrainingConfig) -> torch.dtype | None:
    """The transformer's compute dtype; ``None``: that of its weights."""
    return torch.bfloat16 if devices.uses_bfloat16(config.bf16) else None


def arguments(config: TrainingConfig, steps: int, seed: int, measure: str | None, folder: Path) -> TrainingArguments:
    """The trainer's arguments.

    Args:
        config: The training section.
        steps: Number of optimiser steps.
        seed: Random seed of the library.
        measure: Key in the log of the measure that selects the best weights; ``None``: no evaluation.
        folder: Folder for checkpoints.
    """
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=config.queries_per_step,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.learning_rate,
        warmup_steps=max(1, round(config.warmup * steps)) if config.warmup else 0,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        eval_strategy="steps" if measure else "no",
        eval_steps=config.evaluate_steps,
        metric_for_best_model=measure,
        greater_is_better=True if measure else None,
        save_steps=config.save_steps,
        logging_steps=LOGGING_STEPS,
        report_to=[],  # trackers are callbacks of ours, so that their files outlive the checkpoints' folder
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=devices.device() == "cpu",
        dataloader_pin_memory=False,
        seed=seed,
    )
