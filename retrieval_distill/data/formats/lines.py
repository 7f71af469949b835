"""Lines of text files, with every line that is not text named and none of them larger than a bound.

Knows bytes and encodings; must not know what a line means.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from retrieval_distill.data.formats.contract import Reading, RowError
from retrieval_distill.errors import UserError

MAX_CHARACTERS = 1 << 24
"""Longest line that is read; a longer one is passed over without being held."""

_UNDECODED = re.compile("[\udc80-\udcff]")
"""What Python puts in place of a byte that the encoding does not allow (PEP 383)."""


def lines(path: Path, reading: Reading) -> Iterator[tuple[str, str]]:
    """(``path:number``, line) of every line, its end included; lines end with a line feed and nothing else.

    Raises:
        UserError: The encoding is unknown or the file cannot be read in it; or bad rows are refused and a line is too
            long, holds a NUL byte or a byte that the encoding does not allow.
    """
    encoding = reading.options.encoding
    with path.open(encoding=codec(encoding), errors="surrogateescape", newline="\n") as file:
        number = 0
        try:
            while line := file.readline(MAX_CHARACTERS + 1):
                number += 1
                try:
                    if len(line) > MAX_CHARACTERS and line[-1] != "\n":
                        while line and line[-1] != "\n":
                            line = file.readline(MAX_CHARACTERS)
                        raise RowError("line too long", f"the line has more than {MAX_CHARACTERS:,} characters")
                    yield f"{path}:{number}", _checked(line, encoding)
                except RowError as defect:
                    reading.bad.row(f"{path}:{number}", defect.reason, defect.detail)
        except UnicodeDecodeError as error:
            raise UserError(f"{path}:{number + 1}: not {encoding} ({error.reason}); give its --encoding") from None


def codec(encoding: str) -> str:
    """The codec of an encoding's name; a byte-order mark that UTF-8 files may open with is no text."""
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        raise UserError(f"encoding {encoding!r} is unknown; Python's names are used, such as utf-8 or cp1252") from None
    return "utf-8-sig" if name == "utf-8" else name


def _checked(line: str, encoding: str) -> str:
    if wrong := None if line.isascii() else _UNDECODED.search(line):
        raise RowError(
            f"not {encoding}",
            f"byte 0x{ord(wrong[0]) - 0xDC00:02x} at column {wrong.start() + 1} is not {encoding}; "
            "convert the file, or give its --encoding, such as cp1252 or utf-16",
        )
    if "\0" in line:
        raise RowError("NUL byte", f"NUL byte at column {line.index(chr(0)) + 1}: is this a text file in {encoding}?")
    return line
