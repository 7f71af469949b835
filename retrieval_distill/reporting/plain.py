"""Tables as plain text. Knows how rich draws; must not know what is drawn."""

from __future__ import annotations

import io
from typing import Any


def plain(width: int, *parts: Any) -> str:
    """What rich makes of tables and lines, one under another, in so many columns.

    Nothing is printed: in a notebook rich would also show what it writes anywhere else.
    """
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, record=True, force_jupyter=False)
    for part in parts:
        console.print(part)
    return console.export_text().rstrip()
