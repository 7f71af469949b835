"""Text files of every kind: how bytes become text, and text becomes lines, in one place.

A byte-order mark says what the encoding is, whatever was said otherwise, and is no part of the text; a file that ends
in ``.gz`` is decompressed. Nothing else is guessed: bytes that do not fit are refused by their position. Knows bytes
and encodings; must not know what a line means.
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
"""Mark -> a codec that reads it and leaves it out."""

BYTES_PER_READ = 1 << 20

UNREADABLE = (OSError, EOFError, zlib.error)
"""What reading a file raises that is not there, is no file, or is damaged (``.gz``)."""


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The whole text of a file, without its byte-order mark; line ends are as they stand.

    Args:
        path: The file.
        encoding: A name that Python knows, for files without a byte-order mark.

    Raises:
        UserError: The file cannot be read or decoded, or holds a NUL byte; or there is no such encoding.
    """
    with opened(path, encoding) as file:
        return _without_nul(file.read(), path, encoding)


def lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a file, without their ends: a line feed, a carriage return, or both.

    No other character ends a line (``str.splitlines`` parts at U+2028, U+0085 and form feeds too).

    Args:
        path: The file.
        encoding: A name that Python knows, for files without a byte-order mark.

    Raises:
        UserError: As :func:`read_text`.
    """
    with opened(path, encoding, newline=None) as file:
        for line in file:
            yield _without_nul(line.removesuffix("\n"), path, encoding)


@contextmanager
def opened(path: Path, encoding: str = "utf-8", errors: str = "strict", newline: str | None = "") -> Iterator[TextIO]:
    """A file, open for reading text; within, what is wrong with it becomes a :class:`UserError`.

    Args:
        path: The file.
        encoding: A name that Python knows, for files without a byte-order mark.
        errors: What is done with bytes that do not fit, as for :func:`open`.
        newline: What ends a line, as for :func:`open`.

    Raises:
        UserError: As :func:`read_text`, but NUL bytes are not looked for.
    """
    try:
        with binary(path) as raw:
            name = codec(encoding, raw.peek(4)[:4])  # type: ignore[attr-defined]
            with io.TextIOWrapper(raw, name, errors, newline) as file:
                yield file
    except (UnicodeError, *UNREADABLE) as error:
        raise _blame(path, encoding, error) from None


def codec(encoding: str, start: bytes = b"") -> str:
    """The codec for a file that starts so; it leaves a byte-order mark out.

    Raises:
        UserError: There is no such encoding of text.
    """
    try:
        name = codecs.lookup(encoding).name
        "".encode(name)  # LookupError for a codec that makes no bytes of text, such as rot13
    except (LookupError, ValueError):
        raise UserError(f"encoding {encoding!r} is unknown; Python's names are used, such as utf-8 or cp1252") from None
    marked = (found for mark, found in BYTE_ORDER_MARKS.items() if start.startswith(mark))
    return next(marked, "utf-8-sig" if name == "utf-8" else name)


def binary(path: Path) -> BinaryIO:
    """A file, open for reading its bytes; one that ends in ``.gz`` is decompressed."""
    return cast(BinaryIO, gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb"))


def unreadable(path: Path, error: BaseException) -> UserError:
    """What to say of a file that could not be read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"damaged file: {error}"
    return UserError(f"{path}: {reason}")


def _blame(path: Path, encoding: str, error: BaseException) -> UserError:
    """What to say of a file that was being read as text; one that does not fit may be damaged further on, too."""
    if not isinstance(error, UnicodeError):
        return unreadable(path, error)
    try:
        return _misfit(path, encoding)
    except UNREADABLE as damage:
        return unreadable(path, damage)


def _misfit(path: Path, encoding: str) -> UserError:
    """Names the first byte that does not fit; the file is read again for it."""
    total, line = 0, 1
    with binary(path) as raw:
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
                found = f"no byte-order mark, so that {encoding} is either of two: say {encoding}-le or {encoding}-be"
                break
    return UserError(f"{path}: {found}; save it as UTF-8, or name its --encoding, such as cp1252, where there is one")


def _without_nul(text: str, path: Path, encoding: str) -> str:
    if "\0" in text:
        raise UserError(f"{path}: a NUL byte; this is no text in {encoding} (UTF-16? then save the file as UTF-8)")
    return text
