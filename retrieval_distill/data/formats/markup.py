"""Extracts the main text of an HTML page, one block per line.

White space within a block becomes one space, as in browsers; headings begin with ``#`` as in Markdown; code is fenced
and unchanged. Left out is what HTML itself does not consider content: scripts, controls, navigation, and headers,
footers and asides of the page (not of an article in it); if a page marks its main part, everything else. There are no
heuristics that could drop text by chance; if nothing is left, all visible text is used. Sources: HTML
Standard, section 4.4; W3C, "HTML Accessibility API Mappings", the roles of these elements.

Knows elements; must not know files, or that Markdown becomes HTML first.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from retrieval_distill.formatting import fenced

UNSEEN = frozenset(
    "script style template noscript title svg canvas iframe object audio video annotation button select textarea "
    "datalist dialog".split()
)
"""Elements without text of the page."""

BLOCKS = frozenset(
    "p div section article header footer main aside nav li ul ol dl dt dd table thead tbody tfoot tr td th caption "
    "blockquote figure figcaption form fieldset legend details summary address hgroup menu search hr br".split()
)
"""Elements that end a line; all others are inline."""

AROUND: dict[str, frozenset[str]] = {
    "nav": frozenset(),
    "search": frozenset(),
    "menu": frozenset(),
    "aside": frozenset({"article", "section"}),
    "header": frozenset({"article", "section", "main", "aside"}),
    "footer": frozenset({"article", "section", "main", "aside"}),
}
"""Elements around the content -> elements within which they belong to it."""

ROLES = frozenset("navigation banner contentinfo complementary search menu menubar toolbar dialog alertdialog".split())
"""Roles of elements around the content."""

HEADINGS = {f"h{rank}": "#" * rank for rank in range(1, 7)}

SIGNS = frozenset("#¶§🔗⚓\uf0c1")
"""Texts of links that only anchor a heading."""

ABOUT = ("author", "date", "keywords")
"""Names of ``meta`` elements to keep."""


class Page(NamedTuple):
    """A page's title, text and metadata."""

    title: str
    text: str
    about: dict[str, Any]


def page(soup: Any, title: str = "") -> Page | None:
    """Extract a page; ``None``: it has no visible text.

    Args:
        soup: The page, a tree of ``BeautifulSoup``.
        title: Its title; if empty, that of its head, or else its first top-level heading.
    """
    values = {meta["name"].lower(): meta.get("content") for meta in soup.find_all("meta", attrs={"name": True})}
    values["language"] = soup.html.get("lang") if soup.html else None
    about = {name: values[name] for name in (*ABOUT, "language") if values.get(name)}
    title = title or (line(soup.title.get_text()) if soup.title else "")
    for roots, all_of_it in ((_main(soup), False), ([soup], False), ([soup], True)):
        text = _Text(title, all_of_it)
        for root in roots:
            text.take(root)
        if text.lines or text.heading:
            return Page(title or text.heading, "\n".join(text.lines), about)
    return None


def line(text: str) -> str:
    """A text on one line."""
    return re.sub(r"\s+", " ", text).strip()


def _main(soup: Any) -> list[Any]:
    """The outermost elements marked as the main part, if any."""
    found = soup.find_all(lambda element: element.name == "main" or element.get("role") == "main")
    every = {id(element) for element in found}
    return [element for element in found if not any(id(outer) in every for outer in element.parents)]


class _Text:
    """Collects the lines of a page.

    Args:
        title: A first heading equal to the title is left out.
        all_of_it: Whether to include what surrounds the content.
        headings: Whether to mark headings.
    """

    def __init__(self, title: str, all_of_it: bool, headings: bool = True) -> None:
        self.lines: list[str] = []
        self.heading = ""
        self._title, self._all, self._headings = title, all_of_it, headings
        self._pieces: list[str] = []

    def take(self, root: Any) -> None:
        """Add the text of an element, with a stack instead of recursion, since pages may be nested thousands deep."""
        from bs4.element import PreformattedString, Tag

        due: list[tuple[Any, frozenset[str]]] = [(root, frozenset())]
        while due:
            node, within = due.pop()
            if node is None:
                self._end()
            elif not isinstance(node, Tag):
                if not isinstance(node, PreformattedString):  # such as a comment
                    self._pieces.append(node)
            elif node is root or not self._left_out(node, within):
                if node.name in HEADINGS and self._headings:
                    self._head(node)
                elif node.name == "pre":
                    self._end()
                    if (code := node.get_text()).strip():
                        self.lines.append(fenced(code.strip("\r\n")))
                else:
                    if node.name in BLOCKS:
                        self._end()
                        due.append((None, within))
                    within |= {node.name}
                    due += [(child, within) for child in reversed(node.contents)]
        self._end()

    def _left_out(self, element: Any, within: frozenset[str]) -> bool:
        if element.name in UNSEEN or "hidden" in element.attrs or element.get("aria-hidden") == "true":
            return True
        if element.name == "a" and element.get_text().strip() in SIGNS:
            return True
        around = element.name in AROUND and not AROUND[element.name] & within
        return not self._all and (around or element.get("role") in ROLES)

    def _head(self, element: Any) -> None:
        self._end()
        text = _heading(element)
        if element.name == "h1" and not self.heading and text.casefold() == (self._title or text).casefold():
            self.heading = text
        elif text:
            self.lines.append(f"{HEADINGS[element.name]} {text}")

    def _end(self) -> None:
        """End a line."""
        if text := line("".join(self._pieces)):
            self.lines.append(text)
        self._pieces = []


def _heading(element: Any) -> str:
    """A heading's text on one line."""
    text = _Text("", all_of_it=True, headings=False)
    text.take(element)
    return " ".join(text.lines)
