"""Prompt templates with placeholders. Knows text; must not know what is asked, or who answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np

from retrieval_distill.errors import UserError
from retrieval_distill.formatting import counted

logger = logging.getLogger("retrieval_distill")


def fill(template: str, **texts: str) -> str:
    """Replace each ``{name}`` of a template in one pass; all other braces are left alone."""
    return re.sub(rf"\{{({'|'.join(texts)})\}}", lambda found: texts[found[1]], template)


def announce_truncation(sizes: np.ndarray, most: int) -> None:
    """Log how many documents are truncated to ``most`` characters, given their lengths."""
    if cut := int((sizes > most).sum()):
        logger.info(f"{counted(cut, 'document', 'are')} longer than {most:,} characters and truncated")


def check_template(template: str, names: Sequence[str]) -> None:
    """Refuse a prompt without its placeholders.

    Raises:
        UserError: The template lacks ``{name}``.
    """
    if absent := [f"{{{name}}}" for name in names if f"{{{name}}}" not in template]:
        raise UserError(f"the prompt must contain {' and '.join(absent)}")
