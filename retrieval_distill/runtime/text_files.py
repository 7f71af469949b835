"""Reads text files: decodes bytes into text, and splits text into lines.

A byte-order mark overrides the requested encoding and is not part of the text; a file that ends in ``.gz`` is
decompressed. Nothing else is guessed: bytes that do not fit the encoding are an error that names their position. Knows
bytes and encodings; must not know what a line means.
"""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from retrieval_distill.errors import UserError

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is its beginning
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Mark -> the codec that strips it."""

BYTES_PER_READ = 1 << 20

UNREADABLE = (OSError, EOFError, zlib.error)
"""Errors of reading a file that is missing, is not a file, or is damaged (``.gz``)."""


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The whole text of a file, without its byte-order mark; line endings are kept.

    Args:
        path: The file.
        encoding: A name that Python knows, for files without a byte-order mark.

    Raises:
        UserError: The file cannot be read or decoded, or holds a NUL byte; or the encoding is unknown.
    """
    with open_text(path, encoding) as file:
        return _without_nul(file.read(), path, encoding)


def lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a file, without their endings: a line feed, a carriage return, or both.

    No other character ends a line (``str.splitlines`` also splits at U+2028, U+0085 and form feeds).

    Args:
        path: The file.
        encoding: A name that Python knows, for files without a byte-order mark.

    Raises:
        UserError: As :func:`read_text`.
    """
    with open_text(path, encoding, newline=None) as file:
        for line in file:
            yield _without_nul(line.removesuffix("\n"), path, encoding)


@contextmanager
def open_text(
    path: Path, encoding: str = "utf-8", errors: str = "strict", newline: str | None = ""
) -> Iterator[TextIO]:
    """A file opened for reading text; errors within the block become :class:`UserError`.

    Args:
        path: The file.
        encoding: A name that Python knows, for files without a byte-order mark.
        errors: How to handle bytes that do not fit, as for :func:`open`.
        newline: What ends a line, as for :func:`open`.

    Raises:
        UserError: As :func:`read_text`, except that NUL bytes are allowed.
    """
    try:
        with open_binary(path) as raw:
            name = codec(encoding, raw.peek(4)[:4])  # type: ignore[attr-defined]
            with io.TextIOWrapper(raw, name, errors, newline) as file:
                yield file
    except (UnicodeError, *UNREADABLE) as error:
        raise _error_for(path, encoding, error) from None


def codec(encoding: str, start: bytes = b"") -> str:
    """The codec for a file that starts with these bytes; it strips a byte-order mark.

    Raises:
        UserError: The encoding is unknown.
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)  # LookupError for a codec that does not encode text, such as rot13
    except (LookupError, ValueError):
        raise UserError(
            f"encoding {encoding!r} is unknown; use one of Python's names, such as utf-8 or cp1252"
        ) from None
    marked = (found for mark, found in BYTE_ORDER_MARKS.items() if start.startswith(mark))
    return next(marked, "utf-8-sig" if name == "utf-8" else name)


def open_binary(path: Path) -> BinaryIO:
    """A file opened for reading bytes; one that ends in ``.gz`` is decompressed."""
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))


def unreadable_error(path: Path, error: BaseException) -> UserError:
    """The message about a file that cannot be read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged file: {error}"
    return UserError(f"{path}: {reason}")


def _error_for(path: Path, encoding: str, error: BaseException) -> UserError:
    """The message about a file that cannot be read as text; looking for the first bad byte may show damage."""
    if not isinstance(error, UnicodeError):
        return unreadable_error(path, error)
    try:
        return _decoding_error(path, encoding)
    except UNREADABLE as damage:
        return unreadable_error(path, damage)


def _decoding_error(path: Path, encoding: str) -> UserError:
    """The message that names the first byte that does not fit; reads the file again to find it."""
    total, line = 0, 1
    with open_binary(path) as raw:
        decoder = codecs.getincrementaldecoder(codec(encoding, raw.peek(4)[:4]))()  # type: ignore[attr-defined]
        while True:
            part = raw.read(BYTES_PER_READ)
            total += len(part)
            try:
                line += decoder.decode(part, final=not part).count("\n")
            except UnicodeDecodeError as error:
                at = total - len(error.object) + error.start
                line += error.object[: error.start].decode(error.encoding, "ignore").count("\n")
                found = f"byte 0x{error.object[error.start]:02x} at position {at} (line {line}) is not {encoding}"
                break
            except UnicodeError:
                found = f"without a byte-order mark {encoding} is ambiguous: use {encoding}-le or {encoding}-be"
                break
    return UserError(
        f"{path}: {found}; save it as UTF-8, or give its encoding (--encoding cp1252, if the command has it)"
    )


def _without_nul(text: str, path: Path, encoding: str) -> str:
    if "\0" in text:
        raise UserError(
            f"{path}: contains a NUL byte, so it is not {encoding} text (if it is UTF-16, save it as UTF-8)"
        )
    return text
