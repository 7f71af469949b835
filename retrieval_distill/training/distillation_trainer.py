"""The transformers trainer with a fixed schedule, our log and evaluation, and a stop at a NaN or infinite loss.

Knows batches and losses; must not know students, or how batches and losses are made.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer

from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices
from retrieval_distill.training import distributed, out_of_memory
from retrieval_distill.training.checkpoints import last_complete
from retrieval_distill.training.layer_rates import parameter_groups
from retrieval_distill.training.log_window import LogWindow
from retrieval_distill.training.out_of_memory import BatchSnapshot


class DistillationTrainer(Trainer):
    """The transformers trainer; takes the schedule in order, stops at a NaN or infinite loss, and logs more.

    Args:
        evaluation: Returns a row of the log; called when the trainer evaluates.
        layer_decay: See :func:`retrieval_distill.training.layer_rates.parameter_groups`.
    """

    ids_key, ids_noun = "query_ids", "queries"
    """The key of a batch with the ids of its items, and what these are called in messages."""

    nan_advice = "try a lower training.learning_rate or student.scale, or training.bf16=false"
    """Advice shown for a NaN or infinite loss."""

    def __init__(
        self,
        *args: Any,
        evaluation: Callable[[], dict[str, float]] | None = None,
        layer_decay: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._evaluation = evaluation
        self._layer_decay = layer_decay
        self._window = LogWindow()
        self._snapshots: list[BatchSnapshot] = []

    def get_train_dataloader(self) -> DataLoader:
        """The schedule in order. Every process gets the whole step; the model divides its texts among the processes."""
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_size=self.args.per_device_train_batch_size * distributed.count(),
            collate_fn=self.data_collator,
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The library's optimiser, with a rate for each layer if they differ."""
        if self.optimizer is None and self._layer_decay < 1:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            trained = cast(nn.Module, self.model)
            decayed = self.get_decay_parameter_names(trained)
            rates = self.args.learning_rate, self._layer_decay, self.args.weight_decay
            self.optimizer = kind(parameter_groups(trained, *rates, decayed), **options)
        return super().create_optimizer(model)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Loss and gradients of a batch; out of memory, the step's batches are repeated with fewer texts at once."""
        self.snapshot(inputs)
        pending = self._snapshots[-1:]
        while True:
            try:
                for snapshot in pending:
                    snapshot.restore()
                    loss = super().training_step(model, snapshot.inputs, *args, **kwargs)
                break
            except RuntimeError as error:
                fewer = out_of_memory.reduce_cache_texts(error, self.model.cache_texts, pending[-1].texts)  # type: ignore[union-attr,arg-type]
            self.model.cache_texts = fewer  # type: ignore[union-attr]
            model.zero_grad()
            devices.release_memory()
            pending = self._snapshots
        self.log_batch()
        return loss

    def snapshot(self, inputs: dict[str, Any]) -> None:
        """Remember a batch of the current step, so that it can be repeated."""
        self._snapshots.append(BatchSnapshot(inputs))

    def log_batch(self) -> None:
        """Add a finished batch to the log's window."""
        self._window.add(**self._batch_stats)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Any:
        """The batch's loss; called by the trainer.

        Raises:
            UserError: The loss is NaN or infinite.
        """
        self._window.start()
        self.model.progress = self.state.global_step / self.state.max_steps  # type: ignore[union-attr]
        outputs = model(**inputs)
        loss, components = outputs["loss"], outputs["components"]
        self._batch_stats = {name: outputs[name] for name in ("components", "tokens", "padded")}
        if not torch.isfinite(loss):
            parts = ", ".join(f"{name} {float(value):.4g}" for name, value in components.items())
            self._stop(f"the loss is {float(loss.detach())} ({parts})", self.remedy(inputs))
        return (loss, outputs) if return_outputs else loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if not torch.isfinite(torch.as_tensor(norm)):
            self._stop(f"the gradient's norm is {float(norm)}", self.nan_advice)
        self._snapshots.clear()
        return norm

    def remedy(self, inputs: dict[str, Any]) -> str:
        """Advice for a batch whose loss is NaN or infinite."""
        unscored = (~torch.isfinite(inputs["teacher"])).any(dim=1).tolist()
        culprits = [id_ for id_, bad in zip(inputs["query_ids"], unscored, strict=True) if bad]
        return f"teacher scores are not finite for: {', '.join(culprits)}" if culprits else self.nan_advice

    def _stop(self, problem: str, remedy: str) -> NoReturn:
        last = last_complete(Path(str(self.args.output_dir)))
        ids = [id_ for snapshot in self._snapshots for id_ in snapshot.inputs[self.ids_key]]
        raise UserError(
            f"training stopped at step {self.state.global_step + 1}: {problem}; {remedy}\n"
            f"{self.ids_noun} of this step: {', '.join(ids)}\n"
            f"last good checkpoint: {last or 'none yet'}"
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluate in the first process, and log the result."""
        assert self._evaluation is not None
        measured = distributed.broadcast_from_first(self._evaluation)
        self.log(dict(measured))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        self._window.pause()
        return measured

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log a row with the statistics of the steps since the last one."""
        if "loss" in logs:
            logs |= self._window.close()
        super().log(logs, *args, **kwargs)
