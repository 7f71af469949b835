"""Checkpoints that a killed training continues from: marked when whole, and no window of the log reaches across one.

The mark names the checkpoint's files with their hashes, so one that was altered is not continued from. Knows the
trainer's folders and events; must not know what is trained.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import rotate_checkpoints

from retrieval_distill.errors import UserError
from retrieval_distill.runtime import manifests, processes
from retrieval_distill.runtime.files import read_json, write_json

logger = logging.getLogger("retrieval_distill")

WHOLE = "whole"
"""File that marks a checkpoint written to its end, and lists its files; one without it is torn and not resumed from."""

KEPT = 2
"""Checkpoints that are kept: the newest, and the best one or else the newest but one."""


class MarkWhole(TrainerCallback):
    """Marks a checkpoint once all its files are written, and only then removes older ones.

    The trainer's own ``save_total_limit`` removes them before: killed in between, the best one could be gone.
    """

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after it wrote a checkpoint."""
        if state.is_world_process_zero:
            _mark(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")
            rotate_checkpoints(str(args.output_dir), KEPT, state.best_model_checkpoint)


class LogAtCheckpoints(TrainerCallback):
    """Closes the window that is logged with every checkpoint, so that a resumed training logs the same ones."""

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        control.should_log |= control.should_save


def last_whole(folder: Path) -> Path | None:
    """The newest checkpoint that is as it was written; torn and altered ones are removed.

    So are those whose best weights so far were in one of these: what would be kept in the end is gone.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    defects = {path: _defect(path) for path in found}
    good = {path.name for path in found if not defects[path]}
    for path in found:
        if not defects[path] and (best := _best(path)) and best not in good:
            good.discard(path.name)
            defects[path] = f"its best weights so far were those of {best}"
        if defects[path]:
            logger.warning("%s is not continued from: %s", path, defects[path])
            shutil.rmtree(path)
    return next((path for path in reversed(found) if path.name in good), None)


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


def _mark(checkpoint: Path) -> None:
    """Mark a checkpoint as whole. Other processes write their own files at the same time, which are not listed."""
    others = [f"rng_state_{other}.pth" for other in range(1, processes.count())]
    listed = {
        name: entry for name, entry in manifests.describe_files(checkpoint).items() if name not in (WHOLE, *others)
    }
    write_json(checkpoint / WHOLE, listed)


def _defect(checkpoint: Path) -> str:
    """Why a checkpoint cannot be continued from; empty: it can."""
    mark = checkpoint / WHOLE
    if not mark.is_file():
        return "it was not written to its end"
    if not mark.stat().st_size:
        return ""  # an older version's, which lists no files
    try:
        name, defect = next(manifests.find_damaged(checkpoint, read_json(mark)), ("", ""))
    except (UserError, AttributeError, KeyError, TypeError):
        return f"{WHOLE} was altered"
    return f"{name} is {defect}" if name else ""


def _best(checkpoint: Path) -> str:
    """The checkpoint with the best weights when this one was written; empty: none was the best."""
    return Path(read_json(checkpoint / "trainer_state.json").get("best_model_checkpoint") or "").name


def reached(checkpoint: Path | None) -> TrainerState:
    """How far a training was at a checkpoint; ``None``: it has not begun."""
    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json")) if checkpoint else TrainerState()


class Advance(TrainerCallback):
    """Passes the trainer's steps on to our progress."""

    def __init__(self, advance: Any) -> None:
        self.advance = advance

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Called by the trainer after every optimiser step."""
        self.advance(1)
