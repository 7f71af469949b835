"""Training that is evaluated as it goes, and stops when nothing gets better.

Knows the trainer's log and events; must not know what is measured. The library's ``EarlyStoppingCallback`` counts in
memory: killed after the last evaluation and started again, it would train on. What is read from the log, which
checkpoints hold, is the same in a resumed training.
"""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

logger = logging.getLogger("retrieval_distill")


class StopEarly(TrainerCallback):
    """Evaluates after the last step too, keeps a checkpoint of every evaluation, and stops when patience is exhausted.

    Args:
        logged: What the log calls the measure; more is better.
        patience: See :func:`exhausted`.
    """

    def __init__(self, logged: str, patience: int | None) -> None:
        self.logged = logged
        self.patience = patience

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        control.should_evaluate |= state.global_step >= state.max_steps
        control.should_save |= control.should_evaluate

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: Any, **_: Any) -> None:
        """Called by the trainer after every evaluation."""
        value = state.log_history[-1][self.logged]
        logger.info("step %d: dev %s %.3f", state.global_step, self.logged.removeprefix("eval_"), value)
        control.should_training_stop |= exhausted(state.log_history, self.logged, self.patience)


def exhausted(history: list[dict[str, float]], logged: str, patience: int | None) -> bool:
    """Whether the last ``patience`` evaluations of a trainer's log brought nothing better; ``None``: never."""
    values = [row[logged] for row in history if logged in row]
    return patience is not None and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])
