"""The memory of this process: given back, and its peak measured.

Knows the system's figures; must not know who asks.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_MEASURED: list[str] = []
"""What is being measured, the outermost first."""


@contextmanager
def measured(name: str) -> Iterator[None]:
    """Begin with given-back memory and a new peak, unless this happens within something that is being measured."""
    if not _MEASURED:
        release()
        reset_peak()
    _MEASURED.append(name)
    try:
        yield
    finally:
        _MEASURED.pop()


def release() -> None:
    """Return freed memory to the system; the C library (glibc) would keep it."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> None:
    """Reset the peak memory (Linux only; elsewhere the peak is that of the whole process)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Peak resident memory of this process since the last reset."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except (OSError, IndexError):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
