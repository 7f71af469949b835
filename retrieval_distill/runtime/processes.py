"""Processes that ``torchrun`` or ``accelerate launch`` started together: how many there are, and which one this is.

Knows environment variables; must not know what the processes do. The first does everything that is done once; the
others join in where work is shared.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any


def count() -> int:
    """The number of processes that work together; 1 without a launcher."""
    return int(os.environ["WORLD_SIZE"]) if "LOCAL_RANK" in os.environ else 1


def rank() -> int:
    """This process's number, counted from 0; 0 without a launcher."""
    return int(os.environ["RANK"]) if "LOCAL_RANK" in os.environ else 0


def place() -> int:
    """This process's number among those on this machine, counted from 0; 0 without a launcher."""
    return int(os.environ.get("LOCAL_RANK", 0))


def leave(*_: Any, **__: Any) -> None:
    """Exit one of several processes after its work is done; does nothing in a single process. Ignores its arguments.

    Call it last, and only on success: a failed process is ended by the launcher. It skips the interpreter's shutdown,
    because the process group's threads outlive the group if a model was wrapped for it (torch 2.13), and one that
    touches a Python object then occasionally aborts the program.
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
