"""Statistics of the steps between two rows of the log: objectives, throughput, padding.

Knows numbers and clocks; must not know the trainer or the model.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any


class LogWindow:
    """The steps since the last row of the log; the clock starts with :meth:`start`."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._clear()

    def _clear(self) -> None:
        self._components: dict[str, list[float]] = defaultdict(list)
        self._tokens = self._padded = 0

    def start(self) -> None:
        """Start the clock if it is not running."""
        if self._since is None:
            self._since = time.monotonic()

    def pause(self) -> None:
        """Stop the clock until the next step, because the time in between is not training."""
        self._since = None

    def add(self, components: Mapping[str, Any], tokens: int, padded: int) -> None:
        """Add one step: the values of its objectives, and its number of tokens without and with padding."""
        for name, value in components.items():
            self._components[name].append(float(value))
        self._tokens += tokens
        self._padded += padded

    def close(self) -> dict[str, float]:
        """Start the next window and return this one's statistics.

        These are each objective's mean, ``tokens`` (without padding), ``tokens_per_second`` (over the time including
        batches and checkpoints) and ``padding_share``.
        """
        now = time.monotonic()
        seconds = max(now - (self._since or now), 1e-9)
        closed = {name: sum(values) / len(values) for name, values in self._components.items()}
        closed["tokens"] = self._tokens
        closed["tokens_per_second"] = round(self._tokens / seconds, 1)
        closed["padding_share"] = round(1 - self._tokens / max(self._padded, 1), 4)
        self._since = now
        self._clear()
        return closed
