"""Keeps libraries from printing what a user cannot act on: within a block, or in a whole process of our own.

Knows their loggers and switches; must not know what they do.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("bm25s", "datasets", "faiss", "faiss.loader", "httpcore", "httpx", "sentence_transformers")
"""Loggers that warn of what is meant, such as a bi-encoder's folder that is loaded as a cross-encoder."""

SWITCHES = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
"""Environment variables that libraries read when they are imported."""


@contextmanager
def libraries() -> Iterator[None]:
    """Silence, within this block, what loads, trains and saves models; what a user had set holds again after it."""
    from transformers.utils import logging as of_transformers

    verbosity, bars = of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        of_transformers.set_verbosity(verbosity)
        if bars:
            of_transformers.enable_progress_bar()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def process() -> None:
    """Silence them for good, before they are imported, in a process that is ours alone."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    for name, value in SWITCHES.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # for those who call it
