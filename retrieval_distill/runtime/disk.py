"""Turns a full disk, a read-only one and missing permissions into messages for the user.

Knows the errors of the system and of the libraries that write files; must not know what is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval_distill.errors import UserError

FULL_DISK_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

UNWRITABLE_NUMBERS = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EBUSY,
    errno.EXDEV,
)  # fmt: skip
"""Errors which mean that nothing can be written under that name."""

FULL_DISK_MESSAGES = (
    "No space left on device", "os error 28", "Disk quota exceeded", "os error 122",
    "PytorchStreamWriter failed", "unexpected pos",  # torch.save
    "requested and",  # NumPy: "4096 requested and 512 written"
)  # fmt: skip
"""What libraries say of a full disk when they do not raise an ``OSError`` with its number."""


class FullDiskError(UserError):
    """The disk is full."""

    def __init__(self, place: str | Path, lost: str | None) -> None:
        self.lost = lost
        told = lost or "nothing of it was written"
        super().__init__(f"{place}: the disk is full, {told}; free some disk space and run the same command again")


@contextmanager
def explain_full_disk(place: str | Path, lost: str | None = None) -> Iterator[None]:
    """Raise a full disk or a missing permission within this block as a :class:`UserError`.

    Of blocks within each other, the outermost names the place, and the innermost that knows it says what was lost.

    Args:
        place: The file or folder being written.
        lost: What was lost and what was kept, for the message about a full disk; ``None``: nothing was written.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    try:
        yield
    except Exception as error:
        if _is_full(error):
            known = error.lost if isinstance(error, FullDiskError) else None
            raise FullDiskError(place, known or lost) from error
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, OSError) and number in UNWRITABLE_NUMBERS and _concerns(error, Path(place)):
            raise unwritable_error(place, error) from error
        raise


def _is_full(error: Exception) -> bool:
    if isinstance(error, FullDiskError) or (isinstance(error, OSError) and error.errno in FULL_DISK_NUMBERS):
        return True
    return not isinstance(error, UserError) and any(words in str(error) for words in FULL_DISK_MESSAGES)


def unwritable_error(place: str | Path, error: OSError) -> UserError:
    """The message about a place where nothing can be written."""
    named = error.filename or place
    where = "" if str(named) == str(place) else f" at {named}"
    return UserError(f"{place}: cannot be written ({error.strerror or error}{where}); choose another place")


def _concerns(error: OSError, place: Path) -> bool:
    """Whether an error is about writing there, not about a file that was read elsewhere."""
    if error.filename is None:
        return True
    named, place = Path(os.fsdecode(error.filename)).absolute(), place.absolute()
    if place.is_relative_to(named):
        return True
    relative = named.relative_to(place.parent).parts if named.is_relative_to(place.parent) else ()
    return bool(relative) and (place.name in relative[0] or relative[0].startswith(".tmp-"))
