"""A disk that takes no more, as a mistake that the user can mend: full, read-only, or closed to this user.

Knows errors of the system and of the libraries that write; must not know what is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval_distill.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

CLOSED = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EBUSY,
    errno.EXDEV,
)  # fmt: skip
"""Nothing can be written under that name."""

SAID = (
    "No space left on device", "os error 28", "Disk quota exceeded", "os error 122",
    "PytorchStreamWriter failed", "unexpected pos",  # torch.save
    "requested and",  # NumPy: "4096 requested and 512 written"
)  # fmt: skip
"""How libraries tell of a full disk that raise no ``OSError`` with its number."""


class FullDiskError(UserError):
    """The disk is full."""


@contextmanager
def room(place: str | Path, lost: str = "nothing of it was written") -> Iterator[None]:
    """What is written within needs room on a disk, and permission; a folder speaks for the files within it.

    Args:
        place: The file or folder to write.
        lost: What a full disk costs, and what it does not, for the message.

    Raises:
        UserError: The disk is full, or nothing can be written there.
    """
    try:
        yield
    except Exception as error:
        if _is_full(error):
            said = f"{place}: the disk is full, {lost}: make room and run the same command again"
            raise FullDiskError(said) from error
        number = error.errno if isinstance(error, OSError) else None
        if isinstance(error, OSError) and number in CLOSED and _concerns(error, Path(place)):
            raise unwritable(place, error) from error
        raise


def _is_full(error: Exception) -> bool:
    if isinstance(error, FullDiskError) or (isinstance(error, OSError) and error.errno in FULL):
        return True
    return not isinstance(error, UserError) and any(words in str(error) for words in SAID)


def unwritable(place: str | Path, error: OSError) -> UserError:
    """The message about a place where nothing can be written."""
    named = error.filename or place
    where = "" if str(named) == str(place) else f" at {named}"
    return UserError(f"{place}: cannot be written ({error.strerror or error}{where}); choose another place")


def _concerns(error: OSError, place: Path) -> bool:
    """Whether an error is about what is written there, and not about a file that was read elsewhere."""
    if error.filename is None:
        return True
    named, place = Path(os.fsdecode(error.filename)).absolute(), place.absolute()
    if place.is_relative_to(named):
        return True
    beside = named.relative_to(place.parent).parts if named.is_relative_to(place.parent) else ()
    return bool(beside) and (place.name in beside[0] or beside[0].startswith(".tmp-"))
