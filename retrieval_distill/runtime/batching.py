"""Batches of results by time, so that they are saved neither one by one nor only at the end.

Knows clocks; must not know what the results are.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from retrieval_distill.errors import UserError

T = TypeVar("T")


def batch_by_time(results: Iterable[T], seconds: float) -> Iterator[list[T]]:
    """Lists of the results of ``seconds`` each; a ``UserError`` or Ctrl-C does not lose the last, shorter one."""
    batch: list[T] = []
    start = time.monotonic()
    try:
        for result in results:
            batch.append(result)
            if time.monotonic() - start >= seconds:
                yield batch
                batch, start = [], time.monotonic()
    except (UserError, KeyboardInterrupt):
        if batch:
            yield batch
        raise
    if batch:
        yield batch
