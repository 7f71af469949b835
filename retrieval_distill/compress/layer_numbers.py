"""Layer numbers as recipes give them. Knows only numbers."""

from __future__ import annotations

from retrieval_distill.errors import UserError


def layer_index(layer: int, count: int, option: str) -> int:
    """A layer's index from 0; negative numbers count from the last layer.

    Raises:
        UserError: There is no such layer; the message names the ``option``.
    """
    if not -count <= layer < count:
        raise UserError(f"compress.transfers.{option}={layer}: the layers are 0 to {count - 1}, or -{count} to -1")
    return layer % count
