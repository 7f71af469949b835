"""Splits text into sentences by a rule. Knows punctuation; must not know tokens.

A sentence ends at ``. ! ?`` or an ellipsis, including closing quotes and brackets, if white space and then something
other than a lower-case letter follows, or if white space precedes it too, as in tokenised text; at every full stop of
Chinese and Japanese; at the danda; and at every line break. The rule splits "Dr. Smith", so a passage may end there,
but it needs no model or language setting, and loses no text.
"""

from __future__ import annotations

import re

_END = re.compile(
    r"""[.!?\u2026]+["'\u2019\u201d)\]\u00bb]*\s+(?=[^\sa-z])|(?<=\s)[.!?\u2026]+\s+"""
    r"""|[\u3002\uff01\uff1f]+["'\u2019\u201d)\]\u300d\u300f]*\s*|[\u0964\u0965]\s*|\n\s*"""
)


def sentences(text: str) -> list[str]:
    """The sentences in order, each with the white space after it; joined, they are the text."""
    ends = [match.end() for match in _END.finditer(text)]
    starts = [0, *ends]
    found = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    return [sentence for sentence in found if sentence]
