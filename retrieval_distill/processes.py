"""Processes that ``torchrun`` or ``accelerate launch`` started together: how many there are, and which one this is.

Knows the environment; must not know what is done in it. The first process does all that is done once; the others join
it where work is shared out.
"""

from __future__ import annotations

import os


def count() -> int:
    """How many processes work together; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Which one this is, counted from 0; 0 without a launcher."""
    return int(os.environ["RANK"]) if "LOCAL_RANK" in os.environ else 0
