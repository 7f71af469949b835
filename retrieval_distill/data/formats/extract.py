"""Extracts title, text and metadata of a file: plain text, Markdown, HTML, PDF.

HTML with beautifulsoup4, which respects declared encodings; Markdown with markdown-it-py, via HTML; PDF with pypdf. All
three are pure Python without models (extra ``files``). Metadata (front matter, ``meta`` elements, properties) become
further columns. Knows how to extract text from a file; must not know folders or ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieval_distill.data.formats import front_matter, markup
from retrieval_distill.data.formats.lines import MAX_CHARACTERS
from retrieval_distill.data.formats.markup import Page
from retrieval_distill.data.formats.reading import RowError
from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted
from retrieval_distill.runtime import text_files

NEEDED = "this type of file needs: pip install 'retrieval-distill[files]'"


def plain(path: Path, encoding: str) -> Page:
    """The complete file, without a title."""
    text = _decode(path, encoding)
    if not text.strip():
        raise RowError("text file without text", "the file is empty")
    return Page("", text, {})


def markdown(path: Path, encoding: str) -> Page:
    """The rendered text; the title is that of the front matter, or the first top-level heading."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise UserError(f"{path}: {NEEDED}") from None
    about, text = front_matter.split_front_matter(_decode(path, encoding))
    named = next((key for key, value in about.items() if key.casefold() == "title" and isinstance(value, str)), None)
    title = markup.line(about.pop(named)) if named else ""
    found = markup.page(_soup(MarkdownIt("commonmark").enable("table").render(text), path), title)
    if found is None:
        raise RowError("Markdown without text", "the file contains only markup")
    return found._replace(about=about)


def html(path: Path, encoding: str) -> Page:
    """The main text of the page; see :mod:`retrieval_distill.data.formats.markup`."""
    source = path.read_bytes()
    try:
        soup = _soup(_check(source.decode(text_files.codec(encoding, source[:4])), encoding), path)
    except UnicodeDecodeError:
        soup = _soup(source, path)
        if soup.declared_html_encoding is None or soup.contains_replacement_characters:
            detail = f"the page is not {encoding} and declares no encoding that fits; give its --encoding"
            raise RowError(f"not {encoding}", detail) from None
    found = markup.page(soup)
    if found is None:
        raise RowError("HTML without text", "the page has no visible text (is it filled in by a script?)")
    return found


def pdf(path: Path, encoding: str) -> Page:
    """The text of all pages; title, author and keywords from the file's properties."""
    try:
        from pypdf import PdfReader
    except ImportError:
        raise UserError(f"{path}: {NEEDED}") from None
    try:
        reader = PdfReader(path)
        text = "\n\n".join(page.extract_text() for page in reader.pages).strip()
        properties: Any = reader.metadata or {}
        title, *about = (markup.line(str(properties.get(name) or "")) for name in ("/Title", "/Author", "/Keywords"))
        pictures = sum(len(page.images) for page in reader.pages) if not text else 0
    except Exception as error:  # a broken file may cause any exception in pypdf
        raise RowError("PDF that cannot be read", f"the PDF cannot be read ({error})") from None
    if not text and pictures:
        where = counted(len(reader.pages), "page")
        detail = f"the PDF contains only images ({pictures} on {where}); run OCR on it first"
        raise RowError("PDF that is only pictures", detail)
    if not text:
        raise RowError("PDF without text", f"the PDF has no text on its {counted(len(reader.pages), 'page')}")
    return Page(title, text, {name: value for name, value in zip(("author", "keywords"), about, strict=True) if value})


Extractor = Callable[[Path, str], Page]

EXTRACTORS: dict[str, Extractor] = {
    ".txt": plain, ".text": plain, ".md": markdown, ".markdown": markdown, ".html": html, ".htm": html, ".pdf": pdf,
}  # fmt: skip
"""Suffix -> function (path, encoding) -> page; raises :class:`RowError` for a file without text."""


def _decode(path: Path, encoding: str) -> str:
    content = path.read_bytes()
    try:
        text = content.decode(text_files.codec(encoding, content[:4]))
    except UnicodeDecodeError as error:
        detail = f"byte {error.start} of the file is not {encoding}; give its --encoding, such as cp1252"
        raise RowError(f"not {encoding}", detail) from None
    return _check(text, encoding)


def _check(text: str, encoding: str) -> str:
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
