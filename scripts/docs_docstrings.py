"""How docstrings are read for the reference: ``Example:`` opens lines that are run, as ``Examples:`` does elsewhere, and a name
is code whether or not its kind is told.

Knows griffe, which reads them for mkdocstrings; must not know any of them.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Names the section as griffe knows it, and leaves out roles."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """A docstring's sections are told apart later."""
        if obj.docstring:
            value = re.sub(r"^( *)Example:$", r"\1Examples:", obj.docstring.value, flags=re.M)
            obj.docstring.value = re.sub(r":(?:func|class|attr|meth|mod|data):(?=`)", "", value)
