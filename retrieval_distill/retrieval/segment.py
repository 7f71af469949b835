"""Splits text into words for BM25. Knows letters; must not know documents or scores.

A word is two letters or more, as in scikit-learn, including the marks that are vowels in Indic and Semitic scripts.
Text in a script without spaces becomes its characters and pairs of adjacent characters, as in Lucene's CJKBigramFilter
with ``outputUnigrams``; source: Nie et al., "On the use of words and n-grams for Chinese information retrieval", 2000.
The scripts are those for which UAX #29 says that rules do not suffice; Korean has spaces.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

_HAN = "\u2e80-\u2fd5\u3005\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_KANA = "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f\U0001aff0-\U0001b16f"
_BOPOMOFO = "\u3105-\u312f\u31a0-\u31bf"
_THAI, _LAO = "\u0e01-\u0e3a\u0e40-\u0e4e", "\u0e81-\u0ece\u0edc-\u0edf"
_MYANMAR, _KHMER = "\u1000-\u103f\u1050-\u108f\ua9e0-\ua9ef\uaa60-\uaa7f", "\u1780-\u17d3\u17d7\u17dc\u17dd"
_TAI = "\u1950-\u19c9\u1a20-\u1a7c\uaa80-\uaadd"

UNSPACED = f"[{_HAN}{_KANA}{_BOPOMOFO}{_THAI}{_LAO}{_MYANMAR}{_KHMER}{_TAI}]"
"""Pattern of a letter or mark of a script without spaces between words."""

_BLOCKS = range(0x0590, 0x1AB0), range(0xA800, 0xAC00)
"""Scripts whose words contain marks. Latin, Greek and Cyrillic, with lower code points, are not included: their accents
are mostly part of the letter, and otherwise end a word, as in scikit-learn."""

_MARKS = "".join(chr(code) for block in _BLOCKS for code in block if unicodedata.category(chr(code)) in ("Mn", "Mc"))

WORD = rf"{UNSPACED}+|\b\w[\w{_MARKS}]+"
"""Pattern of a word in the result of :func:`segment`."""

_RUN = re.compile(f"{UNSPACED}+")

_CHARACTER = re.compile(r"\w\W*|\W+")
"""A letter with its marks."""


def segment(text: str) -> str:
    """The text with scripts without spaces split into characters and pairs; other text is unchanged."""
    return text if text.isascii() else _RUN.sub(_grams, text)


def _grams(run: re.Match[str]) -> str:
    characters = _CHARACTER.findall(run[0])
    return f" {' '.join([*characters, *map(''.join, pairwise(characters))])} "
