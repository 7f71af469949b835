"""The terminal: nothing goes to it that it would act on, and no character that it lacks ends a command.

Knows streams and the log; must not know any command.
"""

from __future__ import annotations

import io
import logging
import sys

from retrieval_distill.formatting import visible


def forgive() -> None:
    """Let no character end a command: what a stream cannot write is replaced, what it cannot read told apart later."""
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace"), (sys.stderr, "replace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


class VisibleFormatter(logging.Formatter):
    """Lines of the log as a terminal may show them."""

    def format(self, record: logging.LogRecord) -> str:
        """A line, or several with a traceback."""
        return visible(super().format(record))


def log(level: int) -> None:
    """Send the log to the standard error, with times."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
