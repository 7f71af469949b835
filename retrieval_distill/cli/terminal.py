"""The terminal: nothing goes to it that it would act on, and no character that it lacks ends a command.

Knows streams; must not know any command.
"""

from __future__ import annotations

import io
import sys


def forgive() -> None:
    """Let no character end a command: what a stream cannot write is replaced, what it cannot read told apart later."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
