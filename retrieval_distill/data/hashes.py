"""The 64-bit hash of a text, which identifies it in indexes and stores.

Knows strings; must not know what they mean. Stores on disk contain these hashes, so the function must never change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def text_hash(text: str) -> int:
    """First 64 bits of the BLAKE2b digest of a text's UTF-8 bytes."""
    return int.from_bytes(hashlib.blake2b(text.encode()).digest()[:8])


def text_hashes(texts: Sequence[str]) -> np.ndarray:
    """``text_hash`` of each text, uint64 [n]."""
    return np.fromiter(map(text_hash, texts), np.uint64, len(texts))
