"""Which documents a query may find: all, or, where several datasets were joined, those of its own.

Knows datasets; must not know how a query is answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.mixture import apart


def scopes(documents: Any, queries: Texts) -> Iterator[tuple[Texts, np.ndarray | None]]:
    """Queries, part by part, and which documents each part may find, bool [documents]; ``None``: all."""
    if isinstance(documents, Dataset):
        yield from apart(documents, queries)
    else:
        yield queries, None
