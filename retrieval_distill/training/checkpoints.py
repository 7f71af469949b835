"""Checkpoints that a killed training continues from: marked when whole, and no window of the log reaches across one.

Knows the trainer's folders and events; must not know what is trained.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

logger = logging.getLogger("retrieval_distill")

WHOLE = "whole"
"""File that marks a checkpoint written to its end; one without it is torn and is not resumed from."""

KEPT = 2
"""Checkpoints that are kept: the newest, and the best one or else the newest but one."""


class MarkWhole(TrainerCallback):
    """Marks a checkpoint once all its files are written, and only then removes older ones.

    The trainer's own ``save_total_limit`` removes them before: killed in between, the best one could be gone.
    """

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after it wrote a checkpoint."""
        if state.is_world_process_zero:
            (Path(str(args.output_dir)) / f"checkpoint-{state.global_step}" / WHOLE).touch()
            rotate_checkpoints(str(args.output_dir), KEPT, state.best_model_checkpoint)


class LogAtCheckpoints(TrainerCallback):
    """Closes the window that is logged with every checkpoint, so that a resumed training logs the same ones."""

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        control.should_log |= control.should_save


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint written to its end; torn ones are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in found:
        if not (path / WHOLE).is_file():
            logger.warning("%s was not written to its end: set aside", path)
            shutil.rmtree(path)
    whole = [path for path in found if path.exists()]
    return whole[-1] if whole else None


@contextmanager
def telling(folder: Path) -> Iterator[None]:
    """A training, with a word on what is kept for those who stop it with Ctrl-C."""
    try:
        yield
    except KeyboardInterrupt:
        last = last_whole(folder)
        kept = f"{last} is kept" if last else "no checkpoint was reached yet, so it will begin anew"
        logger.warning("the training is stopped; %s", kept)
        raise
