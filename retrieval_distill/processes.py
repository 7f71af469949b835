"""Processes that ``torchrun`` or ``accelerate launch`` started together: how many there are, and which one this is.

Knows the environment; must not know what is done in it. The first process does all that is done once; the others join
it where work is shared out.
"""

from __future__ import annotations

import os
from typing import Any


def count() -> int:
    """How many processes work together; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Which one this is, counted from 0; 0 without a launcher."""
    return int(os.environ["RANK"]) if "LOCAL_RANK" in os.environ else 0


def leave(*_: Any, **__: Any) -> None:
    """End the work with the others, as a program that did its part must do last; whatever is handed in is ignored.

    Threads of torch's process group that still run when the interpreter ends abort the program, once in some seventy
    times. A program that failed leaves it out: another process may still wait for its share, and would for ever.
    """
    if count() > 1:
        from torch import distributed  # slow to import

        if distributed.is_initialized():
            distributed.destroy_process_group()
