"""Progress with rate and time left: a bar on a terminal, plain log lines elsewhere.

Knows counts and clocks; must not know what is counted.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

logger = logging.getLogger("retrieval_distill")

LINE_EVERY_SECONDS = 10.0
"""How often a plain log line says how far the work is; work shorter than this says only its end."""


@contextmanager
def progress(
    what: str, total: int, unit: str, done: int = 0, kept: Path | None = None
) -> Iterator[Callable[[int], None]]:
    """Report work on ``total`` units; call the yielded function with the units just finished.

    Args:
        what: The act, such as ``"embedding the corpus"``.
        total: Units in all.
        unit: The unit's name in the plural.
        done: Units that an earlier, interrupted attempt already finished.
        kept: Where every unit that was reported as finished is safe, for a word to those who stop the work with
            Ctrl-C; ``None``: units are not kept one by one.
    """
    finished = done

    def count(units: int) -> None:
        nonlocal finished
        finished += units
        advance(units)

    if total <= done:
        yield lambda units: None
        return
    try:
        with (_bar if sys.stderr.isatty() else _lines)(what, total, unit, done) as advance:
            yield count
    except KeyboardInterrupt:
        if kept is not None:
            logger.warning("%s: stopped; %s of %s %s are kept in %s", what, f"{finished:,}", f"{total:,}", unit, kept)
        raise


@contextmanager
def _lines(what: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    line = _Lines(what, total, unit, done)
    yield line.advance
    line.finish()


@contextmanager
def _bar(what: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    rate = TextColumn("{task.fields[rate]}")
    columns = (
        "{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        rate,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    start, finished = time.monotonic(), 0
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total, completed=done, rate="")

        def advance(units: int) -> None:
            nonlocal finished
            finished += units
            bar.update(task, advance=units, rate=f"{finished / max(time.monotonic() - start, 1e-9):,.0f} {unit}/s")

        yield advance


class _Lines:
    """Log lines for a log file: at most one every ``LINE_EVERY_SECONDS``."""

    def __init__(self, what: str, total: int, unit: str, done: int) -> None:
        self.what, self.total, self.unit, self.done, self.skipped = what, total, unit, done, done
        self.start = self.last = time.monotonic()

    def advance(self, units: int) -> None:
        self.done += units
        now = time.monotonic()
        if now - self.last >= LINE_EVERY_SECONDS and self.done < self.total:
            self.last = now
            rate = (self.done - self.skipped) / (now - self.start)
            left = (self.total - self.done) / max(rate, 1e-9)
            logger.info(
                "%s: %s of %s %s, %s/s, %s left",
                self.what,
                f"{self.done:,}",
                f"{self.total:,}",
                self.unit,
                _short(rate),
                clock(left),
            )

    def finish(self) -> None:
        seconds = time.monotonic() - self.start
        fresh = self.done - self.skipped
        logger.info(
            "%s: %s %s in %s (%s/s)",
            self.what,
            f"{fresh:,}",
            self.unit,
            clock(seconds),
            _short(fresh / max(seconds, 1e-9)),
        )


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"


def clock(seconds: float) -> str:
    """Seconds for people: 6.1 s, 3 min 56 s."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
