"""The library's training loop with our schedule, our log, our evaluation, and a stop at what is not a number.

Knows batches and losses; must not know students, or how either was made.
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
from retrieval_distill.training import distributed, out_of_memory
from retrieval_distill.training.checkpoints import last_whole
from retrieval_distill.training.layer_rates import parameter_groups
from retrieval_distill.training.log_window import Window
from retrieval_distill.training.out_of_memory import Begun

LOWER = "try a lower training.learning_rate or student.scale, or training.bf16=false"


class DistillationTrainer(Trainer):
    """The library's trainer, taking the schedule in order, stopping at what is not a number, and logging more.

    Args:
        evaluation: Gives a row of the log; asked wherever the trainer evaluates.
        layer_decay: See :func:`retrieval_distill.training.layer_rates.parameter_groups`.
    """

    ids, called = "query_ids", "queries"
    """The key of a batch that names what it is made of, and the word for it."""

    lower = LOWER
    """What to try where a number is none."""

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
        self._window = Window()
        self._begun: list[Begun] = []

    def get_train_dataloader(self) -> DataLoader:
        """The schedule in order, every process the whole of each step: the model shares its texts out."""
        return DataLoader(
            self.train_dataset,  # type: ignore[arg-type]
            batch_size=self.args.per_device_train_batch_size * distributed.count(),
            collate_fn=self.data_collator,
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The library's, with a rate for every layer if they differ."""
        if self.optimizer is None and self._layer_decay < 1:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            trained = cast(nn.Module, self.model)
            decayed = self.get_decay_parameter_names(trained)
            rates = self.args.learning_rate, self._layer_decay, self.args.weight_decay
            self.optimizer = kind(parameter_groups(trained, *rates, decayed), **options)
        return super().create_optimizer(model)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Tensor:
        """Loss and gradients of a batch; short of memory, those of all batches of this step anew, with less held."""
        self.begin(inputs)
        pending = self._begun[-1:]
        while True:
            try:
                for begun in pending:
                    begun.restore()
                    loss = super().training_step(model, begun.inputs, *args, **kwargs)
                break
            except RuntimeError as error:
                fewer = out_of_memory.fewer(error, self.model.cache_texts, pending[-1].texts)  # type: ignore[union-attr,arg-type]
            self.model.cache_texts = fewer  # type: ignore[union-attr]
            model.zero_grad()
            out_of_memory.release()
            pending = self._begun
        self.count()
        return loss

    def begin(self, inputs: dict[str, Any]) -> None:
        """Take note of a batch of the step that is under way."""
        self._begun.append(Begun(inputs))

    def count(self) -> None:
        """Take a finished batch into the log."""
        self._window.add(**self._counted)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, *_: Any, **__: Any
    ) -> Any:
        """The mix's value, as the trainer asks for it.

        Raises:
            UserError: It is not a finite number.
        """
        self._window.start()
        self.model.progress = self.state.global_step / self.state.max_steps  # type: ignore[union-attr]
        outputs = model(**inputs)
        loss, components = outputs["loss"], outputs["components"]
        self._counted = {name: outputs[name] for name in ("components", "tokens", "padded")}
        if not torch.isfinite(loss):
            parts = ", ".join(f"{name} {float(value):.4g}" for name, value in components.items())
            self._stop(f"the loss is {float(loss.detach())} ({parts})", self.remedy(inputs))
        return (loss, outputs) if return_outputs else loss

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        norm = super()._clip_grad_norm(model)
        if not torch.isfinite(torch.as_tensor(norm)):
            self._stop(f"the gradient's norm is {float(norm)}", self.lower)
        self._begun.clear()
        return norm

    def remedy(self, inputs: dict[str, Any]) -> str:
        """What to do about a loss that is not a number, seen the batch."""
        unscored = (~torch.isfinite(inputs["teacher"])).any(dim=1).tolist()
        culprits = [id_ for id_, bad in zip(inputs["query_ids"], unscored, strict=True) if bad]
        return f"teacher scores are not finite for: {', '.join(culprits)}" if culprits else self.lower

    def _stop(self, what: str, remedy: str) -> NoReturn:
        last = last_whole(Path(str(self.args.output_dir)))
        asked = [id_ for begun in self._begun for id_ in begun.inputs[self.ids]]
        raise UserError(
            f"training stopped at step {self.state.global_step + 1}: {what}; {remedy}\n"
            f"{self.called} of this step: {', '.join(asked)}\n"
            f"last good checkpoint: {last or 'none yet'}"
        )

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """A row of the log, measured by the first process."""
        assert self._evaluation is not None
        measured = distributed.from_first(self._evaluation)
        self.log(dict(measured))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, measured)
        self._window.pause()
        return measured

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add what the window since the last log holds."""
        if "loss" in logs:
            logs |= self._window.close()
        super().log(logs, *args, **kwargs)
