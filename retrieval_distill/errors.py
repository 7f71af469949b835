"""The one exception that means "the user can mend this".

Knows nothing else, but how to word one. The command line prints its message without a traceback and exits with code 2;
every other exception is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake the user can mend; the message names the file, line or option and what would work."""


def first_line(error: BaseException) -> str:
    """What a library's error says, without its stack."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def nearest(name: str, choices: Iterable[str], rest: str = "") -> str:
    """A suffix such as ``"; did you mean 'depth'?"``, or the list of choices when none is close.

    Args:
        name: What was given.
        choices: What there is.
        rest: What follows the name, and would follow the right one.
    """
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    return f"; did you mean {close[0] + rest!r}?" if close else f"; choose one of: {', '.join(choices)}"
