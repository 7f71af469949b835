"""Checkpoints from which a killed training resumes: marked when complete, with the log aligned to them.

The mark lists the checkpoint's files with their hashes, so an altered checkpoint is not resumed from. Knows the
trainer's folders and events; must not know what is trained.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import manifests, processes, quiet
from retrieval_distill.runtime.files import read_json, write_json
from retrieval_distill.runtime.progress import progress
from retrieval_distill.training.early_stopping import exhausted

logger = logging.getLogger("retrieval_distill")

MARK = "whole"
"""File that marks a checkpoint as complete and lists its files; a checkpoint without it is not resumed from."""

STATE = "trainer_state.json"
"""The trainer's file of its state."""

KEPT = 2
"""Number of checkpoints kept: the newest, and the best or else the second newest."""


class MarkComplete(TrainerCallback):
    """Marks a checkpoint when all its files are written, and only then removes older ones.

    The trainer's own ``save_total_limit`` removes them earlier, so a kill in between could lose the best one.
    """

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after it wrote a checkpoint."""
        if state.is_world_process_zero:
            _mark(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
            rotate_checkpoints(str(args.output_dir), KEPT, state.best_model_checkpoint)


class LogAtCheckpoints(TrainerCallback):
    """Ends a row of the log at every checkpoint, so that a resumed training logs the same rows."""

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        control.should_log |= control.should_save


def last_complete(folder: Path) -> Path | None:
    """The newest intact checkpoint; incomplete and altered ones are removed.

    Checkpoints that refer to a removed one as the best so far are removed too.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    defects = {path: _defect(path) for path in found}
    good = {path.name for path in found if not defects[path]}
    for path in found:
        if not defects[path] and (best := _best(path)) and best not in good:
            good.discard(path.name)
            defects[path] = f"its best weights so far were those of {best}"
        if defects[path]:
            logger.warning("not resuming from %s: %s", path, defects[path])
            shutil.rmtree(path)
    return next((path for path in reversed(found) if path.name in good), None)


def resume(trainer: Trainer, title: str, patience: int | None = None) -> TrainerState:
    """Train from the last complete checkpoint, if any, unless all steps are done or patience is exhausted.

    Args:
        trainer: Its ``output_dir`` is the folder of the checkpoints.
        title: Title of the progress bar.
        patience: See :func:`retrieval_distill.training.early_stopping.exhausted`; used if the trainer evaluates.

    Returns:
        The trainer's state at the end.
    """
    folder, measure = Path(str(trainer.args.output_dir)), trainer.args.metric_for_best_model
    with trainer.args.main_process_first(local=False):
        last = last_complete(folder)
    state = TrainerState.load_from_json(str(last / STATE)) if last else TrainerState()
    stopped = measure is not None and exhausted(state.log_history, measure, patience)
    if stopped or state.global_step >= trainer.args.max_steps:
        trainer.state = state
        return state
    steps = trainer.args.max_steps if trainer.is_world_process_zero() else state.global_step
    with quiet.libraries(), progress(title, steps, "step", state.global_step) as advance:
        trainer.add_callback(Advance(advance))
        try:
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        except KeyboardInterrupt:
            last = last_complete(folder)
            kept = f"{last} is kept" if last else "there is no checkpoint yet, so it will start from the beginning"
            logger.warning("training stopped; %s", kept)
            raise
    return trainer.state


def _mark(checkpoint: Path) -> None:
    """Mark a checkpoint as complete. The files that other processes may still be writing are not listed."""
    others = [f"rng_state_{other}.pth" for other in range(1, processes.count())]
    listed = {
        name: entry for name, entry in manifests.describe_files(checkpoint).items() if name not in (MARK, *others)
    }
    write_json(checkpoint / MARK, listed)


def _defect(checkpoint: Path) -> str:
    """Why a checkpoint cannot be resumed from; empty if it can."""
    mark = checkpoint / MARK
    if not mark.is_file():
        return "it is incomplete"
    if not mark.stat().st_size:
        return ""  # an older version's, which lists no files
    try:
        name, defect = next(manifests.find_damaged(checkpoint, read_json(mark)), ("", ""))
    except (UserError, AttributeError, KeyError, TypeError):
        return f"{MARK} was altered"
    return f"{name} is {defect}" if name else ""


def _best(checkpoint: Path) -> str:
    """Name of the best checkpoint at the time this one was written; empty if there was none."""
    return Path(read_json(checkpoint / STATE).get("best_model_checkpoint") or "").name


class Advance(TrainerCallback):
    """Advances a progress bar with the trainer's steps."""

    def __init__(self, advance: Any) -> None:
        self.advance = advance

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        self.advance(1)
