"""Early stopping that survives a kill.

The library's ``EarlyStoppingCallback`` counts in memory, so a training that was killed after its last evaluation would
train on when resumed. Here the evaluations are read from the log, which is part of every checkpoint. Knows the
trainer's log and events; must not know what is measured.
"""

from __future__ import annotations

import logging
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments

logger = logging.getLogger("retrieval_distill")


class StopEarly(TrainerCallback):
    """Evaluates after the last step too, saves a checkpoint at every evaluation, and stops when patience is exhausted.

    Args:
        logged: The measure's key in the log; higher is better.
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
    """Whether the last ``patience`` evaluations in a trainer's log brought no improvement; ``None``: never stop."""
    values = [row[logged] for row in history if logged in row]
    return patience is not None and len(values) > patience and max(values[-patience:]) <= max(values[:-patience])
