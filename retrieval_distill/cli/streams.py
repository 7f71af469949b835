"""The standard streams of a program that was started without some of them (``<&-``, ``>&-``).

Knows files of the system; must not know what is read or said.
"""

from __future__ import annotations

import os
import sys

STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def open_closed() -> None:
    """Open the closed ones onto nothing.

    Python leaves ``None`` in their place, which nothing expects; and the next files to be opened would get their
    numbers, so that what a library prints would be written into them.
    """
    for number, (name, mode) in enumerate(STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
