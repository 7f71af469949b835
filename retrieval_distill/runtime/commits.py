"""Results gathered for a while, so that they are kept neither one by one nor only in the end.

Knows clocks; must not know what is kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from retrieval_distill.errors import UserError

T = TypeVar("T")


def gathered(results: Iterable[T], seconds: float) -> Iterator[list[T]]:
    """The same results in lists, each gathered for ``seconds``; what came before a user's error is not lost."""
    held: list[T] = []
    start = time.monotonic()
    try:
        for result in results:
            held.append(result)
            if time.monotonic() - start >= seconds:
                yield held
                held, start = [], time.monotonic()
    except (UserError, KeyboardInterrupt):
        if held:
            yield held
        raise
    if held:
        yield held
