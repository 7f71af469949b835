"""Where sentences end, by a rule. Knows punctuation; must not know tokens.

A sentence ends at ``. ! ?`` or an ellipsis, closing quotes and brackets included, if white space and then something
other than a small letter follows, or if white space stands before it too, as in tokenised text; at the full stops of
Chinese and Japanese wherever they stand; at the danda; and at every line break. "Dr. Smith" is cut in two by this
rule, which only means that a passage may end there: no model, no language setting, and no text is lost or changed.
"""

from __future__ import annotations

import re

_END = re.compile(
    r"""[.!?\u2026]+["'\u2019\u201d)\]\u00bb]*\s+(?=[^\sa-z])|(?<=\s)[.!?\u2026]+\s+"""
    r"""|[\u3002\uff01\uff1f]+["'\u2019\u201d)\]\u300d\u300f]*\s*|[\u0964\u0965]\s*|\n\s*"""
)


def sentences(text: str) -> list[str]:
    """The sentences in order, each with the white space after it: joined, they are the text."""
    ends = [match.end() for match in _END.finditer(text)]
    starts = [0, *ends]
    found = [text[start:end] for start, end in zip(starts, [*ends, len(text)], strict=True)]
    return [sentence for sentence in found if sentence]
