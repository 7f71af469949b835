"""Recovery from running out of memory: repeat the step with fewer texts in memory at once.

Gradient caching changes memory use, not the result. Knows errors and random states; must not know models.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import torch

from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import processes

logger = logging.getLogger("retrieval_distill")


@dataclass(frozen=True)
class BatchSnapshot:
    """A batch of the current step, and the random state in which its computation started."""

    inputs: dict[str, Any]
    cpu: torch.Tensor = field(default_factory=torch.get_rng_state)
    gpu: torch.Tensor | None = field(
        default_factory=lambda: torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    )

    def restore(self) -> None:
        """Restore that random state."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu)

    @property
    def texts(self) -> int:
        """Number of distinct texts in the batch."""
        return len(self.inputs["queries"]) + len(self.inputs["documents"])


def reduce_cache_texts(error: RuntimeError, cache_texts: int | None, texts: int) -> int:
    """The next ``cache_texts`` to try: half the current one, or half the batch's texts if it was ``None``.

    Args:
        error: Raised by the step.
        cache_texts: Its value during that step.
        texts: Number of texts in the batch.

    Raises:
        RuntimeError: ``error`` itself, if it is not an out-of-memory error.
        UserError: A single text does not fit; or several processes train together, so one cannot repeat a step alone.
    """
    if not devices.is_out_of_memory(error):
        raise error
    held = min(cache_texts or texts, texts)
    if held == 1:
        raise UserError(
            "not enough memory to train on a single text; lower training.max_length or take a smaller student.model"
        ) from None
    if processes.count() > 1:
        raise UserError(f"not enough memory for a step; set training.cache_texts={held // 2} or lower") from None
    logger.warning("not enough memory for a step; repeating it with training.cache_texts=%d from now on", held // 2)
    return held // 2
