"""Work that overlaps: later items are processed while the first results are already in use.

Knows threads; must not know what the work is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(work: Callable[[T], R], items: Iterable[T], threads: int, stop: Event | None = None) -> Iterator[R]:
    """``work(item)`` for every item, in the order of the items, ``threads`` at a time.

    At most twice as many items are in flight, so neither items nor results pile up.

    Args:
        work: Safe to call from several threads, unless ``threads`` is 1.
        items: Consumed as they are needed.
        threads: 1 works in the caller's own thread, one item at a time.
        stop: Set when no more results are wanted, after an error or Ctrl-C, so that running work, which is waited
            for, can end early.
    """
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            if stop is not None:
                stop.set()
