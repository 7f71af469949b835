"""Processes that ``torchrun`` or ``accelerate launch`` started together: how many there are, and which one this is.

Knows the environment; must not know what is done in it. The first process does all that is done once; the others join
it where work is shared out.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any


def count() -> int:
    """How many processes work together; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """Which one this is, counted from 0; 0 without a launcher."""
    return int(os.environ["RANK"]) if "LOCAL_RANK" in os.environ else 0


def leave(*_: Any, **__: Any) -> None:
    """End this process, which has done its part beside others; alone it does nothing. Whatever is handed in is ignored.

    A program that works with others calls it last, and only when all went well: one that failed leaves its end to the
    launcher. The interpreter is not taken down, for the process group's threads outlive the group where a model was
    wrapped for them (torch 2.13), and one that touches a Python object aborts the program, now and then.
    """
    if count() == 1:
        return
    from torch import distributed  # slow to import

    if distributed.is_initialized():
        distributed.destroy_process_group()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)
