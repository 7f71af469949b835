"""Formats numbers for people, and makes text safe for terminals and Markdown.

One format for every table, plot and page. Knows numbers and strings; must not know what they measure.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence

MINUS, DASH, SPACE = "\u2212", "\u2013", "\u00a0"
"""True minus, en dash, and a space that keeps what it joins on one line."""

TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Control characters that change the direction of the text that follows."""


def number(value: float, digits: int = 3) -> str:
    """0.582, with a true minus sign."""
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float, digits: int = 3) -> str:
    """+0.058, with a true minus sign."""
    return f"{value:+.{digits}f}".replace("-", MINUS)


def interval(low: float, high: float, digits: int = 3) -> str:
    """0.551-0.613, with an en dash."""
    return f"{number(low, digits)}{DASH}{number(high, digits)}"


def share(value: float) -> str:
    """98 %, with a no-break space."""
    return f"{value * 100:.0f}{SPACE}%"


def probability(p: float) -> str:
    """0.272, or < 0.001."""
    return f"<{SPACE}0.001" if p < 0.001 else f"{p:.3f}"


def p_value(p: float) -> str:
    """``p = 0.272``, or ``p < 0.001``, with no-break spaces."""
    return f"p{SPACE}{'' if p < 0.001 else f'={SPACE}'}{probability(p)}"


def short(value: float) -> str:
    """At most four significant digits, with thousands separators: 1.5e-4, 5.85, 1,234,567."""
    if 0 < abs(value) < 0.001:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}".replace("-", MINUS)
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}").replace("-", MINUS)


def rise(value: float) -> str:
    """A difference in few digits: +0.5, 0."""
    return f"{'+' if value > 0 else ''}{short(value)}"


def size(number: float) -> str:
    """Bytes for people: 999 B, 1.0 kB, 12.3 MB."""
    value, units = float(number), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"


def counted(count: int, noun: str, verb: str = "") -> str:
    """A count with its noun, given in the singular, and its verb, given in the plural: 1 query is, 2 queries are."""
    one = {"": "", "are": "is", "have": "has"}.get(verb, f"{verb}s")
    return f"{count:,} {f'{noun} {one}' if count == 1 else f'{plural(noun)} {verb}'}".rstrip()


def plural(noun: str) -> str:
    """The plural of an English noun: queries, days, searches."""
    return re.sub(r"(?<=[^aeiou])y$", "ie", noun) + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def listed(items: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def visible(text: str) -> str:
    r"""Text with control and direction characters escaped: ESC becomes ``\x1b``.

    Line feeds and tabs stay.
    """
    return "".join(repr(c)[1:-1] if _acts(c) else c for c in text)


def md(value: object) -> str:
    """Text escaped for one line of Markdown: no markup, HTML or end of a table cell."""
    line = html.escape(re.sub(r"\s+", " ", str(value)).strip(), quote=False)
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", line)


def code(value: object) -> str:
    """Text as inline code in Markdown, whatever backquotes it contains."""
    line = re.sub(r"\s+", " ", str(value)).strip()
    marks, space = _longer_than(line, 0), " " if line.startswith("`") or line.endswith("`") else ""
    return f"{marks}{space}{line}{space}{marks}"


def fenced(value: str, language: str = "") -> str:
    """Text as a code block in Markdown, whatever backquotes it contains."""
    marks = _longer_than(value, 2)
    return f"{marks}{language}\n{value.rstrip()}\n{marks}"


def _longer_than(text: str, least: int) -> str:
    """One backquote more than ``least``, and than the longest row of them in a text."""
    return "`" * (1 + max([least, *map(len, re.findall("`+", text))]))


def _acts(character: str) -> bool:
    return (unicodedata.category(character) in ("Cc", "Cs") and character not in "\n\t") or character in TURNS
