"""Progress with rate and time left: a bar on a terminal or in a notebook, plain log lines elsewhere.

Silent until :func:`show_progress` is called, as a library should be. Knows counts and clocks; must not know what is
counted.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from retrieval_distill.formatting import counted, plural, visible

logger = logging.getLogger("retrieval_distill")


class _Visible(logging.Formatter):
    """Log lines with control characters made visible."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, or several with a traceback."""
        return visible(super().format(record))


_HANDLER = logging.StreamHandler(sys.stderr)
"""Attached to the logger while progress is shown."""
_HANDLER.setFormatter(_Visible("%(asctime)s %(message)s", datefmt="%H:%M:%S"))

LINE_EVERY_SECONDS = 10.0
"""Time between plain log lines about progress; shorter work logs only its end."""


def show_progress(shown: bool = True) -> None:
    """Show what the toolkit is doing on standard error: bars for long work, log lines for the rest.

    Example:
        >>> import retrieval_distill as rd
        >>> rd.show_progress()
        >>> rd.show_progress(False)

    Args:
        shown: ``False``: be silent again.
    """
    if shown:
        _HANDLER.setStream(sys.stderr)  # a notebook or a test may have replaced it
        logger.addHandler(_HANDLER)
        logger.setLevel(logging.INFO)
    else:
        logger.removeHandler(_HANDLER)
        logger.setLevel(logging.NOTSET)


@contextmanager
def progress(
    what: str, total: int, unit: str, done: int = 0, saved_in: Path | None = None
) -> Iterator[Callable[[int], None]]:
    """Report work on ``total`` units; call the yielded function with the units just finished.

    Args:
        what: The act, such as ``"embedding the corpus"``.
        total: Units in all.
        unit: The unit's name, in the singular.
        done: Units that an earlier, interrupted attempt already finished.
        saved_in: Where finished units are saved, for the message after Ctrl-C; ``None``: they are not saved one by
            one.
    """
    finished = done

    def count(units: int) -> None:
        nonlocal finished
        finished += units
        if _whole:
            _whole.show(finished / total)
        advance(units)

    if total <= done:
        yield lambda units: None
        return
    try:
        with (_bar if _shows_bars() else _lines)(what, total, unit, done) as advance:
            yield count
    except KeyboardInterrupt:
        if saved_in is not None:
            logger.warning(
                "%s: stopped; %s of %s are kept in %s", what, f"{finished:,}", counted(total, unit), saved_in
            )
        raise


@contextmanager
def whole_progress(parts: Sequence[str], seconds: Sequence[float]) -> Iterator[Callable[[int], None]]:
    """Report on work of several parts; call the yielded function with the number, from 0, of the part that begins.

    Meanwhile each :func:`progress` says how long the whole still takes, too.

    Args:
        parts: What each part is.
        seconds: How long each is thought to take; the pace of those that are done mends the rest. 0: next to nothing.
    """
    global _whole
    whole = _Whole(parts, seconds)
    outer, _whole = _whole, whole
    try:
        yield whole.begin
    finally:
        _whole = outer
        whole.close()


class _Whole:
    """The time that all parts take: a bar of its own where bars are shown, and a part of log lines elsewhere."""

    def __init__(self, parts: Sequence[str], seconds: Sequence[float]) -> None:
        self.parts, self.ahead, self.now = parts, list(seconds), 0
        self.reckoned = self.taken = 0.0
        self.started = time.monotonic()
        self.bar: Any = None
        if sum(seconds):
            logger.info("about %s in all on this machine, as measured just now", clock(sum(seconds)))
            if _shows_bars():
                from tqdm.auto import tqdm

                self.bar = tqdm(total=100, bar_format="whole run: {percentage:3.0f}%|{bar}| {postfix}")

    def begin(self, number: int) -> None:
        """Close the part before, and name this one."""
        if number != self.now:
            self._finish()
        self.now, self.started = number, time.monotonic()
        self.show(0.0)
        logger.info("stage %d of %d: %s", number + 1, len(self.parts), self.parts[number])

    def left(self, share: float) -> float:
        """Seconds left of all, where this share of the part under way is done."""
        pace = self.taken / self.reckoned if self.reckoned else 1.0
        return pace * (sum(self.ahead[self.now :]) - share * self.ahead[self.now])

    def show(self, share: float) -> None:
        """Draw the bar."""
        if self.bar is not None:
            done, left = self.taken + time.monotonic() - self.started, self.left(share)
            self.bar.n = round(100 * done / max(done + left, 1e-9))
            self.bar.set_postfix_str(f"about {clock(left)} left", refresh=True)

    def close(self) -> None:
        """Leave the bar as it is."""
        if self.bar is not None:
            self._finish()
            self.bar.close()

    def _finish(self) -> None:
        if self.ahead[self.now]:
            self.reckoned += self.ahead[self.now]
            self.taken += time.monotonic() - self.started
            self.ahead[self.now] = 0.0


_whole: _Whole | None = None
"""The work of several parts that is under way."""


def _shows_bars() -> bool:
    return _HANDLER in logger.handlers and (sys.stderr.isatty() or _in_notebook())


@contextmanager
def _bar(what: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    from tqdm.auto import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    with logging_redirect_tqdm([logger]), tqdm(desc=what, total=total, initial=done, unit=f" {plural(unit)}") as bar:

        def advance(units: int) -> None:
            bar.update(units)

        yield advance


@contextmanager
def _lines(what: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    line = _Lines(what, total, unit, done)
    yield line.advance
    line.finish()


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


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
            whole = max(left, _whole.left(self.done / self.total)) if _whole else 0.0
            logger.info(
                "%s: %s of %s, %s/s, %s left%s",
                self.what,
                f"{self.done:,}",
                counted(self.total, self.unit),
                _short(rate),
                clock(left),
                f"; of the whole run about {clock(whole)}" if whole else "",
            )

    def finish(self) -> None:
        seconds = time.monotonic() - self.start
        fresh = self.done - self.skipped
        logger.info(
            "%s: %s in %s (%s/s)",
            self.what,
            counted(fresh, self.unit),
            clock(seconds),
            _short(fresh / max(seconds, 1e-9)),
        )


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2f}"


def clock(seconds: float) -> str:
    """Seconds for people: 6.1 s, 3 min 56 s."""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
