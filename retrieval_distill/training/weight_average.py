"""Exponential moving average of the weights, which often ranks better than the weights of any single step.

After every step, ``average = decay * average + (1 - decay) * weights``, starting from the first step's weights. It
covers about the last ``1 / (1 - decay)`` steps, which should be well below the number of steps. Knows weights and
checkpoints; must not know what is trained on.

Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; exponential, as
Tarvainen and Valpola, "Mean teachers are better role models", 2017, arXiv:1703.01780, section 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import TrainerCallback, TrainingArguments

FILE = "averaged.safetensors"
"""File of a checkpoint: the average, and the number of steps that it covers."""


class WeightAverage(TrainerCallback):
    """Keeps the average of a student's weights, in memory and in every checkpoint.

    Args:
        student: The student in training.
        decay: From 0 to below 1; with 0 the average is the last step's weights.
    """

    def __init__(self, student: SentenceTransformer, decay: float) -> None:
        self._student = student
        self._average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay))

    @property
    def student(self) -> SentenceTransformer:
        """The student with the averaged weights."""
        return self._average.module  # type: ignore[return-value]

    def load(self, checkpoint: Path) -> None:
        """Restore a checkpoint's average."""
        self._average.load_state_dict(load_file(checkpoint / FILE))

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer before the first step, after restoring a checkpoint's state."""
        if state.global_step:
            self.load(_folder(args, state))

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        self._average.update_parameters(self._student)

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after writing a checkpoint, which this file completes."""
        if state.is_world_process_zero:
            save_file(self._average.state_dict(), _folder(args, state) / FILE)


def _folder(args: TrainingArguments, state: Any) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
