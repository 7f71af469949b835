"""Title, text and metadata of one file: plain text, Markdown, HTML, PDF.

HTML by beautifulsoup4, which knows the encodings that pages declare; Markdown by markdown-it-py into HTML; PDF by
pypdf. All three are pure Python without models (extra ``files``). What a file tells of itself (front matter, ``meta``
elements, properties) are its further columns. Knows how text is taken out of a file; must not know folders or ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retrieval_distill.data.formats import front_matter, markup
from retrieval_distill.data.formats.contract import RowError
from retrieval_distill.data.formats.lines import MAX_CHARACTERS
from retrieval_distill.data.formats.markup import Page
from retrieval_distill.errors import UserError
from retrieval_distill.runtime import text_files

NEEDED = "files of this kind need: pip install 'retrieval-distill[files]'"


def plain(path: Path, encoding: str) -> Page:
    """The whole file, without a title."""
    text = _decoded(path, encoding)
    if not text.strip():
        raise RowError("text file without text", "the file is empty")
    return Page("", text, {})


def markdown(path: Path, encoding: str) -> Page:
    """The text as it is rendered; the title is that of the front matter, or the first heading of the first rank."""
    try:
        from markdown_it import MarkdownIt
    except ImportError:
        raise UserError(f"{path}: {NEEDED}") from None
    about, text = front_matter.parted(_decoded(path, encoding))
    named = next((key for key, value in about.items() if key.casefold() == "title" and isinstance(value, str)), None)
    title = markup.line(about.pop(named)) if named else ""
    found = markup.page(_soup(MarkdownIt("commonmark").enable("table").render(text), path), title)
    if found is None:
        raise RowError("Markdown without text", "nothing is left of the file but markup")
    return found._replace(about=about)


def html(path: Path, encoding: str) -> Page:
    """The text of the page without what surrounds it; see :mod:`retrieval_distill.data.formats.markup`."""
    source = path.read_bytes()
    try:
        soup = _soup(_checked(source.decode(text_files.codec(encoding, source[:4])), encoding), path)
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
    """The text of all pages; title, author and keywords are those in the file's properties."""
    try:
        from pypdf import PdfReader
    except ImportError:
        raise UserError(f"{path}: {NEEDED}") from None
    try:
        reader = PdfReader(path)
        text = "\n\n".join(page.extract_text() for page in reader.pages).strip()
        told: Any = reader.metadata or {}
        title, *about = (markup.line(str(told.get(name) or "")) for name in ("/Title", "/Author", "/Keywords"))
        pictures = sum(len(page.images) for page in reader.pages) if not text else 0
    except Exception as error:  # broken files make pypdf raise whatever its parser stumbles over
        raise RowError("PDF that cannot be read", f"the PDF cannot be read ({error})") from None
    if not text and pictures:
        detail = f"the PDF is only pictures ({pictures} on {len(reader.pages)} pages); run OCR over it, then read it"
        raise RowError("PDF that is only pictures", detail)
    if not text:
        raise RowError("PDF without text", f"the PDF has no text on its {len(reader.pages)} pages")
    return Page(title, text, {name: value for name, value in zip(("author", "keywords"), about, strict=True) if value})


Extractor = Callable[[Path, str], Page]

EXTRACTORS: dict[str, Extractor] = {
    ".txt": plain, ".text": plain, ".md": markdown, ".markdown": markdown, ".html": html, ".htm": html, ".pdf": pdf,
}  # fmt: skip
"""Ending -> (path, encoding) -> what the file says; one without text is a :class:`RowError`."""


def _decoded(path: Path, encoding: str) -> str:
    content = path.read_bytes()
    try:
        text = content.decode(text_files.codec(encoding, content[:4]))
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
