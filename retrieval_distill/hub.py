"""The Hugging Face hub, knocked at once. Knows the hub's libraries; must not know what is asked of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger("retrieval_distill")

SECONDS = 10.0
"""How long the hub may take to answer at all."""


@contextmanager
def if_reachable() -> Iterator[None]:
    """Let the hub's libraries fetch data sets; without the hub, they take what is on disk.

    That is their offline mode. By themselves they would try six times, for half a minute.
    """
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not any(before) and (reason := _unreachable()):
        logger.warning("%s cannot be reached (%s): taking what is on disk", constants.ENDPOINT, reason)
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


def _unreachable() -> str:
    """Why the hub cannot be reached; empty where it answers, whatever it says."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=SECONDS)
    except Exception as error:  # of whichever HTTP library the hub's uses
        return str(error) or type(error).__name__
    return ""
