"""What the documentation site does beyond mkdocs, as its hooks: pages made from the code, pages that are files elsewhere.

* A line ``<!-- made: keys -->`` of a page becomes what ``docs_reference.py`` makes under that name.
* A page that is nothing but a link to a file of the repository shows that file. Its links lead to the pages that show
  their targets; a target that no page shows stays as a path in the text.

Knows the folder ``docs`` and mkdocs' events; must not know what any page says.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

sys.path.insert(0, str(ROOT))

from scripts import docs_reference  # noqa: E402 -- mkdocs reads this file from wherever it is started

MADE = re.compile(r"^<!-- made: (\w+) -->$", re.M)
ELSEWHERE = re.compile(r"\A\[[^\]]*\]\((\.\.[^)#]*)\)\s*\Z")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.S)
PICTURES = (".png", ".svg")


def pages() -> dict[Path, Path]:
    """Every page of the site: the file whose text it shows -> its place in ``docs``."""
    return {shown(page): page for page in sorted(DOCS.rglob("*.md"))}


def shown(page: Path) -> Path:
    """The file whose text a page shows: itself, or the one that is all it links to."""
    elsewhere = ELSEWHERE.match(page.read_text(encoding="utf-8"))
    return (page.parent / elsewhere[1]).resolve() if elsewhere else page


def text(page: Path) -> str:
    """The Markdown of a page: parts that are made from the code made, links of a file elsewhere leading on the site."""
    source = shown(page)
    markdown = MADE.sub(lambda made: docs_reference.PAGES[made[1]](), source.read_text(encoding="utf-8"))
    if source == page:
        return markdown
    markdown = re.sub(r"\A---\n.*?\n---\n", "", markdown, flags=re.S)  # a model card's fields
    parts = CODE.split(markdown)  # the odd ones are code, in which nothing is a link
    parts[::2] = [LINK.sub(lambda link: _leading(link, source, page), part) for part in parts[::2]]
    return "".join(parts)


def _leading(link: re.Match[str], source: Path, page: Path) -> str:
    picture, name, target, anchor = link[1], link[2], link[3], link[4] or ""
    if not target:
        return link[0]
    found = (source.parent / target).resolve()
    if picture:
        return f"![{name}]({os.path.relpath(DOCS / found.relative_to(ROOT), page.parent)})"
    if found in pages():
        return f"[{name}]({os.path.relpath(pages()[found], page.parent)}{anchor})"
    if DOCS in found.parents:
        return f"[{name}]({os.path.relpath(found, page.parent)}{anchor})"
    return f"{name} (`{found.relative_to(ROOT)}`)"


def on_files(files: Any, config: Any) -> Any:
    """Pictures of files elsewhere travel along, under their own path."""
    from mkdocs.structure.files import File

    elsewhere = [source for source, page in pages().items() if source != page]
    for source in elsewhere:
        for picture, _, target, _ in LINK.findall(source.read_text(encoding="utf-8")):
            found = (source.parent / target).resolve()
            if picture and found.suffix in PICTURES:
                place = found.relative_to(ROOT).as_posix()
                files.append(File.generated(config, place, abs_src_path=str(found)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """A page's text."""
    return text(DOCS / page.file.src_uri)
