"""A worker of a search, a process that tries settings beside others; see :mod:`retrieval_distill.tuning.workers`.

Knows what it was told and the search; must not know who else works there.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from threading import Thread

from retrieval_distill.config import parse_recipe
from retrieval_distill.errors import UserError

logger = logging.getLogger("retrieval_distill")


def main() -> None:
    """Try settings until the budget is spent, or the parent ends."""
    order = json.loads(sys.stdin.readline())
    Thread(target=_end_with_parent, daemon=True).start()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    from retrieval_distill.tuning.search import begun  # imports much

    try:
        with begun(parse_recipe(order["recipe"]), Path(order["folder"]), order["storage"], order["name"]) as search:
            search.run()
    except UserError as error:
        logger.error("%s", error)
        sys.exit(2)


def _end_with_parent() -> None:
    while os.read(0, 1):  # by its number: the stream's own lock would be held when the interpreter ends
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
