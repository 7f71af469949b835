"""The library's training loop with our schedule, our log, and a stop at what is not a number.

Knows batches and losses; must not know students, or how either was made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer

from retrieval_distill.errors import UserError
from retrieval_distill.training import ranks
from retrieval_distill.training.checkpoints import last_whole
from retrieval_distill.training.window import Window

LOWER = "try a lower training.learning_rate or student.scale, or training.bf16=false"


class DistillationTrainer(Trainer):
    """The library's trainer, taking the schedule in order, stopping at what is not a number, and logging more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._window = Window()
        self._asked: list[str] = []

    def get_train_dataloader(self) -> DataLoader:
        """The schedule in order, every process the whole of each step: the model shares its texts out."""
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_size=self.args.per_device_train_batch_size * ranks.count(),
            collate_fn=self.data_collator,
        )

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Any:
        """The mix's value, as the trainer asks for it.

        Raises:
            UserError: It is not a finite number.
        """
        self._window.start()
        self._asked += inputs["query_ids"]
        self.model.progress = self.state.global_step / self.state.max_steps  # type: ignore[union-attr]
        outputs = model(**inputs)
        loss, components = outputs["loss"], outputs["components"]
        self._window.add(components, outputs["tokens"], outputs["padded"])
        if not torch.isfinite(loss):
            parts = ", ".join(f"{name} {float(value):.4g}" for name, value in components.items())
            unscored = (~torch.isfinite(inputs["teacher"])).any(dim=1).tolist()
            culprits = [id_ for id_, bad in zip(inputs["query_ids"], unscored, strict=True) if bad]
            self._stop(
                f"the loss is {float(loss.detach())} ({parts})",
                f"teacher scores are not finite for: {', '.join(culprits)}" if culprits else LOWER,
            )
        return (loss, outputs) if return_outputs else loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if not torch.isfinite(torch.as_tensor(norm)):
            self._stop(f"the gradient's norm is {float(norm)}", LOWER)
        self._asked.clear()
        return norm

    def _stop(self, what: str, remedy: str) -> NoReturn:
        last = last_whole(Path(str(self.args.output_dir)))
        raise UserError(
            f"training stopped at step {self.state.global_step + 1}: {what}; {remedy}\n"
            f"queries of this step: {', '.join(self._asked)}\n"
            f"last good checkpoint: {last or 'none yet'}"
        )

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add what the window since the last log holds."""
        if "loss" in logs:
            logs |= self._window.close()
        super().log(logs, *args, **kwargs)
