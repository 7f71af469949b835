"""Speed of a retriever on this machine: one query at a time, from text to ranking.

Knows clocks and a function to call; must not know what it does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def latency(
    ask: Callable[[str], object], queries: Sequence[str], warm_up: int = 5, sample: int = 100
) -> dict[str, Any]:
    """Time single queries.

    Args:
        ask: Answers one query.
        queries: Texts; the first ``warm_up`` are not counted, the next ``sample`` are.
        warm_up: Uncounted calls.
        sample: Counted calls.

    Returns:
        ``latency_ms`` with ``p50`` and ``p95``, and ``queries_per_second`` of one query after another.
    """
    for query in queries[:warm_up]:
        ask(query)
    seconds = []
    for query in queries[warm_up : warm_up + sample] or queries:
        start = time.perf_counter()
        ask(query)
        seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {
        "latency_ms": {"p50": round(float(p50), 3), "p95": round(float(p95), 3)},
        "queries_per_second": round(len(seconds) / sum(seconds), 2),
    }
