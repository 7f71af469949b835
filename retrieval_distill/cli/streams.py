"""The standard streams: one that was closed (``<&-``, ``>&-``) is opened onto nothing, and no character ends a command.

Knows files of the system; must not know what is read or said.
"""

from __future__ import annotations

import io
import os
import sys

STREAMS = (("stdin", "r", "surrogateescape"), ("stdout", "w", "replace"), ("stderr", "w", "replace"))
"""Name, mode, and what becomes of a character that cannot be written, or was read and is told apart later."""


def prepare() -> None:
    """Open the closed ones and let the others forgive.

    Python leaves ``None`` in place of a closed one, which nothing expects; and the next files to be opened would get
    their numbers, so that what a library prints would be written into them.
    """
    for number, (name, mode, errors) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors=errors)
