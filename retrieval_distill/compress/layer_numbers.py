"""A layer by its number, as recipes give it. Knows numbers only."""

from __future__ import annotations

from retrieval_distill.errors import UserError


def numbered(layer: int, count: int, option: str) -> int:
    """A layer's number from 0; numbers below 0 count from the last one.

    Raises:
        UserError: There is no such layer; the message names the ``option``.
    """
    if not -count <= layer < count:
        raise UserError(f"compress.transfers.{option}={layer}: the layers are 0 to {count - 1}, or -{count} to -1")
    return layer % count
