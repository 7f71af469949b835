"""The one exception that means "the user can fix this", and helpers to word its message.

The command line prints the message without a traceback and exits with code 2; every other exception is a bug of ours
and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can fix; the message names the file, line or option and what would work."""


def first_line(error: BaseException) -> str:
    """The first line of a library's error message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def nearest(name: str, choices: Iterable[str], rest: str = "") -> str:
    """A suffix such as ``"; did you mean 'depth'?"``, or the list of choices when none is close.

    Args:
        name: The unknown name.
        choices: The known names.
        rest: A suffix of the unknown name that the suggestion keeps.
    """
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0] + rest!r}?" if close else f"; choose one of: {', '.join(choices)}"
