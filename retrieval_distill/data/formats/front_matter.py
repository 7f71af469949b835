"""The front matter of Markdown files: YAML between lines of ``---``, or TOML between lines of ``+++``.

Knows its delimiters and contents; must not know Markdown.
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
"""The beginning of front matter, to distinguish it from text between two rules."""

MOST_BRACKETS = 200
"""Most brackets in front matter; the parser is very slow on thousands of nested ones."""


def split_front_matter(text: str) -> tuple[dict[str, Any], str]:
    """The values of the front matter, and the text after it. Invalid front matter is removed too, without values."""
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
