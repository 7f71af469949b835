"""Checks the texts of a request: not too many, none empty, too long or no valid Unicode.

Knows strings; must not know any API or model.
"""

from __future__ import annotations

from collections.abc import Sequence

from retrieval_distill.serving.errors import RefusedError
from retrieval_distill.serving.limits import Limits


def checked(texts: Sequence[str], limits: Limits, param: str, *, empty: bool = False) -> list[str]:
    """The texts.

    Args:
        texts: What was sent.
        limits: How many there may be, and how long.
        param: Their name in the request.
        empty: Whether a text may be empty.

    Raises:
        RefusedError: There are none or too many, or one is not a text that can be read.
    """
    if not texts:
        raise RefusedError(400, f"{param} is empty: send at least one text", param=param)
    if len(texts) > limits.texts:
        raise RefusedError(413, f"{param} has {len(texts):,} texts; at most {limits.texts:,} go at once", param=param)
    for number, text in enumerate(texts):
        name = param if len(texts) == 1 else f"{param}[{number}]"
        if not empty and not text.strip():
            raise RefusedError(400, f"{name} is empty", param=param)
        if len(text) > limits.characters:
            told = f"{name} has {len(text):,} characters; at most {limits.characters:,} are read"
            raise RefusedError(413, told, param=param)
        try:
            text.encode()
        except UnicodeEncodeError:
            raise RefusedError(
                400, f"{name} is not valid Unicode text: it contains a lone surrogate", param=param
            ) from None
    return list(texts)
