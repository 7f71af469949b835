"""One quick check whether the Hugging Face hub is reachable.

Knows the hub's libraries; must not know what is fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("retrieval_distill")

SECONDS = 10.0
"""Time the hub has to answer."""


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Put the hub's libraries into offline mode within this block if the hub cannot be reached.

    Offline they use what is on disk. By themselves they would retry six times, for half a minute.
    """
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not any(before) and (reason := _unreachable()):
        logger.warning("%s cannot be reached (%s); using what is on disk", constants.ENDPOINT, reason)
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _unreachable() -> str:
    """Why the hub cannot be reached; empty if it answers at all."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # whichever HTTP library the hub's uses
        return str(error) or type(error).__name__
    return ""
