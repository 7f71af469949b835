"""Too little memory for a step: the same step again, with fewer texts held at once.

Gradient caching changes what is kept in memory, not what is computed. Knows errors and random states; must not know
models.
"""

from __future__ import annotations

import gc
import logging
from dataclasses import dataclass, field
from typing import Any

import torch

from retrieval_distill.errors import UserError
from retrieval_distill.hardware import devices
from retrieval_distill.runtime import processes

logger = logging.getLogger("retrieval_distill")


@dataclass(frozen=True)
class Begun:
    """A batch whose gradients are to be added up, and the random state it began under."""

    inputs: dict[str, Any]
    cpu: torch.Tensor = field(default_factory=torch.get_rng_state)
    gpu: torch.Tensor | None = field(
        default_factory=lambda: torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    )

    def restore(self) -> None:
        """Go back to that random state."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu)

    @property
    def texts(self) -> int:
        """Distinct texts of the batch."""
        return len(self.inputs["queries"]) + len(self.inputs["documents"])


def fewer(error: RuntimeError, cache_texts: int | None, texts: int) -> int:
    """The ``cache_texts`` to try next: half of what it was, or of the batch's texts if nothing was cached.

    Args:
        error: What a step raised.
        cache_texts: What it ran under.
        texts: Of its batch.

    Raises:
        RuntimeError: ``error`` itself, where it is not about memory.
        UserError: Nothing is left to halve; or several processes train, which would wait for one another.
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
    logger.warning("not enough memory for a step: again, and from here on, with training.cache_texts=%d", held // 2)
    return held // 2


def release() -> None:
    """Give back what the failed step held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
