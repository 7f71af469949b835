"""Prompts: templates with places for texts. Knows text; must not know what is asked, or who answers."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np

from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")


def filled(template: str, **texts: str) -> str:
    """The template with ``{name}`` replaced in one pass: braces in the texts or elsewhere in it mean nothing."""
    return re.sub(rf"\{{({'|'.join(texts)})\}}", lambda found: texts[found[1]], template)


def announce_cuts(sizes: np.ndarray, most: int) -> None:
    """Say how many documents are cut to ``most`` characters, given the characters of each."""
    if cut := int((sizes > most).sum()):
        logger.info(f"{cut:,} documents are longer than {most:,} characters and are cut there")


def check_template(template: str, names: Sequence[str]) -> None:
    """Refuse a prompt that leaves out what is asked about.

    Raises:
        UserError: The template lacks ``{name}``.
    """
    if absent := [f"{{{name}}}" for name in names if f"{{{name}}}" not in template]:
        raise UserError(f"the prompt must contain {' and '.join(absent)}")
