"""Title and text of one file: plain text, Markdown, HTML, PDF.

HTML by beautifulsoup4, which keeps every visible word and knows the encodings that pages declare; Markdown by
markdown-it-py into that same HTML; PDF by pypdf. All three are pure Python without models (extra ``files``). Knows
how text is taken out of a file; must not know folders or ids.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieval_distill.data.formats.contract import RowError
from retrieval_distill.data.formats.lines import MAX_CHARACTERS, codec
from retrieval_distill.errors import UserError

HIDDEN = ("script", "style", "template", "noscript", "title")

BLOCKS = (
    "p div section article header footer main aside nav li ul ol dl dt dd table tr td th h1 h2 h3 h4 h5 h6 "
    "blockquote pre figure figcaption form hr br".split()
)
"""Elements that end a line; all others stand within one."""

NEEDED = "files of this kind need: pip install 'retrieval-distill[files]'"


def plain(path: Path, encoding: str) -> tuple[str, str]:
    """The whole file, without a title."""
    text = _decoded(path, encoding)
    if not text.strip():
        raise RowError("text file without text", "the file is empty")
    return "", text


def markdown(path: Path, encoding: str) -> tuple[str, str]:
    """The text as it is rendered; the title is the first heading of the first rank."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise UserError(f"{path}: {NEEDED}") from None
    soup = _soup(MarkdownIt("commonmark").enable("table").render(_decoded(path, encoding)), path)
    heading = soup.h1.extract() if soup.h1 else None
    title, text = _line(heading.get_text()) if heading else "", _visible(soup)
    if not (title or text):
        raise RowError("Markdown without text", "nothing is left of the file but markup")
    return title, text


def html(path: Path, encoding: str) -> tuple[str, str]:
    """Every visible word, blocks on lines of their own; the title is the page's."""
    page = path.read_bytes()
    try:
        soup = _soup(_checked(page.decode(codec(encoding)), encoding), path)
    except UnicodeDecodeError:
        soup = _soup(page, path)
        if soup.declared_html_encoding is None or soup.contains_replacement_characters:
            detail = f"the page is not {encoding} and declares no encoding that fits; give its --encoding"
            raise RowError(f"not {encoding}", detail) from None
    title = _line(soup.title.get_text()) if soup.title else ""
    text = _visible(soup)
    if not text:
        raise RowError("HTML without text", "the page has no visible text (is it filled in by a script?)")
    return title, text


def pdf(path: Path, encoding: str) -> tuple[str, str]:
    """The text of all pages; the title is the one in the file's properties."""
    try:
        from pypdf import PdfReader
    except ImportError:
        raise UserError(f"{path}: {NEEDED}") from None
    try:
        reader = PdfReader(path)
        text = "\n\n".join(page.extract_text() for page in reader.pages).strip()
        title = _line(reader.metadata.title or "") if reader.metadata else ""
        pictures = sum(len(page.images) for page in reader.pages) if not text else 0
    except Exception as error:  # broken files make pypdf raise whatever its parser stumbles over
        raise RowError("PDF that cannot be read", f"the PDF cannot be read ({error})") from None
    if not text and pictures:
        detail = f"the PDF is only pictures ({pictures} on {len(reader.pages)} pages); run OCR over it, then read it"
        raise RowError("PDF that is only pictures", detail)
    if not text:
        raise RowError("PDF without text", f"the PDF has no text on its {len(reader.pages)} pages")
    return title, text


Extractor = Callable[[Path, str], tuple[str, str]]

EXTRACTORS: dict[str, Extractor] = {
    ".txt": plain, ".text": plain, ".md": markdown, ".markdown": markdown, ".html": html, ".htm": html, ".pdf": pdf,
}  # fmt: skip
"""Ending -> (path, encoding) -> (title, text); a file without text is a :class:`RowError`."""


def _decoded(path: Path, encoding: str) -> str:
    try:
        text = path.read_bytes().decode(codec(encoding))
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the file is not {encoding}; give its --encoding, such as cp1252"
        raise RowError(f"not {encoding}", detail) from None
    return _checked(text, encoding)


def _checked(text: str, encoding: str) -> str:
    if "\0" in text:
        raise RowError(
            "NUL byte", f"NUL byte at character {text.index(chr(0)) + 1}: is this a text file in {encoding}?"
        )
    if len(text) > MAX_CHARACTERS:
        raise RowError("file too long", f"the file has more than {MAX_CHARACTERS:,} characters; split it")
    return text


def _soup(page: str | bytes, path: Path) -> Any:
    try:
        from bs4 import BeautifulSoup
    except ImportError:
        raise UserError(f"{path}: {NEEDED}") from None
    return BeautifulSoup(page, "html.parser")


def _visible(soup: Any) -> str:
    for element in soup.find_all(HIDDEN):
        element.decompose()
    for element in soup.find_all(BLOCKS):
        element.insert_before("\n")
        element.insert_after("\n")
    lines = (_line(line) for line in soup.get_text().split("\n"))
    return "\n".join(line for line in lines if line)


def _line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
