"""The front matter of Markdown files: YAML between lines of ``---``, or TOML between lines of ``+++``.

Knows its marks and what it holds; must not know Markdown.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from typing import Any

import yaml

_MATTER = re.compile(
    r"\s*(?P<mark>---|\+\+\+)[ \t]*\r?\n(?P<inner>.*?)^(?:(?P=mark)|\.\.\.)[ \t]*\r?$", re.DOTALL | re.MULTILINE
)

_KEY = re.compile(r"""\s*(?:#[^\n]*\n\s*)*["']?\w[\w .-]*["']?\s*[:=]""")
"""How front matter begins, in distinction to text between two lines."""

MOST_BRACKETS = 200
"""Of one front matter that is parsed; the parser takes its time with thousands, one within the other."""


def parted(text: str) -> tuple[dict[str, Any], str]:
    """What the front matter says, and the text after it; what cannot be parsed says nothing, and goes all the same."""
    matter = _MATTER.match(text)
    if matter is None or not _KEY.match(matter["inner"]):
        return {}, text
    parse: Callable[[str], Any] = _yaml if matter["mark"] == "---" else tomllib.loads
    try:
        found = parse(matter["inner"]) if len(re.findall(r"[\[{]", matter["inner"])) <= MOST_BRACKETS else {}
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        found = {}
    about = {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    return about, text[matter.end() :]


def _yaml(text: str) -> Any:
    """YAML without references, which a few lines can turn into gigabytes."""
    if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
        return {}
    return yaml.safe_load(text)
