"""Reading a page as a browser does: its tree, its words, its tables."""

from __future__ import annotations

import re
from xml.etree import ElementTree


def tree(page: str) -> ElementTree.Element:
    """The body; that it parses as XML shows that every element is closed and every text escaped."""
    return ElementTree.fromstring(re.search(r"<body>.*</body>", page, re.S).group())


def words(element: ElementTree.Element) -> str:
    return re.sub(r"\s+", " ", "".join(element.itertext())).strip()


def table(page: str, label: str) -> list[list[str]]:
    """The rows of the table in the region of that name."""
    [region] = [e for e in tree(page).iter("div") if e.get("aria-label") == label]
    return [[words(cell) for cell in row] for row in region.iter("tr")]
