"""The trainer's arguments from the options of a training. Knows both; must not know what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainingArguments

from retrieval_distill.config import OptimiserConfig
from retrieval_distill.hardware import devices

A = TypeVar("A", bound=TrainingArguments)

LOGGING_STEPS = 5
"""Steps per row of the log; checkpoints and evaluations end a row too."""


def dtype(config: OptimiserConfig) -> torch.dtype | None:
    """The transformer's compute dtype; ``None``: that of its weights."""
    return torch.bfloat16 if devices.uses_bfloat16(config.bf16) else None


def arguments(
    config: OptimiserConfig,
    steps: int,
    seed: int,
    measure: str | None,
    folder: Path,
    kind: type[A] = TrainingArguments,  # type: ignore[assignment]
    **own: Any,
) -> A:
    """The trainer's arguments.

    Args:
        config: Options of the optimiser.
        steps: Number of optimiser steps.
        seed: Random seed of the library.
        measure: Key in the log of the measure that selects the best weights; ``None``: no evaluation.
        folder: Folder for checkpoints.
        kind: Class of the arguments.
        own: Further arguments, such as ``learning_rate``.
    """
    shared: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": steps,
        "warmup_steps": max(1, round(config.warmup * steps)) if config.warmup else 0,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "eval_strategy": "steps" if measure else "no",
        "metric_for_best_model": measure,
        "greater_is_better": True if measure else None,
        "logging_steps": LOGGING_STEPS,
        "report_to": [],  # trackers are callbacks of ours, so that their files outlive the checkpoints' folder
        "disable_tqdm": True,
        "use_cpu": devices.device() == "cpu",
        "dataloader_pin_memory": False,
        "seed": seed,
    }
    made = kind(**shared | own)
    # on one device a process: the library would deal a batch out to all GPUs, tensor by tensor, and tear it apart
    made._n_gpu = min(made.n_gpu, 1)
    return made
