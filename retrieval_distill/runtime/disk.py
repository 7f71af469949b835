"""A full disk as a mistake that the user can mend.

Knows errors of the system; must not know what is written.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retrieval_distill.errors import UserError


@contextmanager
def room(folder: str | Path, lost: str) -> Iterator[None]:
    """What is written within needs room on a disk.

    Args:
        folder: Where.
        lost: What a full disk costs, and what it does not, for the message.

    Raises:
        UserError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(f"{folder}: the disk is full, {lost}: make room and run the same command again") from error
