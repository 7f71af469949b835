"""Reads lines of a dataset's text files, and reports lines that are too long or not text.

Knows rows and what makes a line unusable; must not know how bytes are decoded, or what a line means.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from retrieval_distill.data.formats.reading import Reading, RowError
from retrieval_distill.runtime import text_files

MAX_CHARACTERS = 1 << 24
"""Longest line; longer ones are skipped without loading them."""

_LOOKED_AT = 1 << 16
"""Number of characters from which the line ending is detected."""

_UNDECODED = re.compile("[\udc80-\udcff]")
"""Python's replacements for invalid bytes (PEP 383)."""


def lines(path: Path, reading: Reading) -> Iterator[tuple[str, str]]:
    """(``path:number``, line) of every line, including its ending.

    Lines end with a line feed or, if the beginning of the file has none, with a carriage return (old Macs).

    Raises:
        UserError: The encoding is unknown or the file cannot be read in it; or bad rows are refused and a line is too
            long, or contains a NUL byte or a byte that is invalid in the encoding.
    """
    encoding = reading.options.encoding
    end, number = _line_end(path, encoding), 0
    with text_files.open_text(path, encoding, "surrogateescape", end) as file:
        while line := file.readline(MAX_CHARACTERS + 1):
            number += 1
            try:
                if len(line) > MAX_CHARACTERS and line[-1] != end:
                    while line and line[-1] != end:
                        line = file.readline(MAX_CHARACTERS)
                    raise RowError("line too long", f"the line has more than {MAX_CHARACTERS:,} characters")
                yield f"{path}:{number}", _check(line, encoding)
            except RowError as defect:
                reading.bad.row(f"{path}:{number}", defect.reason, defect.detail)


def _line_end(path: Path, encoding: str) -> str:
    with text_files.open_text(path, encoding, "surrogateescape") as file:
        start = file.read(_LOOKED_AT)
    return "\r" if "\r" in start[:-1] and "\n" not in start else "\n"


def _check(line: str, encoding: str) -> str:
    if wrong := None if line.isascii() else _UNDECODED.search(line):
        raise RowError(
            f"not {encoding}",
            f"byte 0x{ord(wrong[0]) - 0xDC00:02x} at column {wrong.start() + 1} is not {encoding}; "
            "convert the file, or give its --encoding, such as cp1252 or utf-16",
        )
    if "\0" in line:
        raise RowError("NUL byte", f"NUL byte at column {line.index(chr(0)) + 1}: is this a text file in {encoding}?")
    return line
