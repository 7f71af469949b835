"""Formats of stored vectors: floats of 4 or 2 bytes, 8-bit codes, or signs.

Knows arrays; must not know models, files of vectors or indexes.

8-bit codes are those of FAISS's ``SQ8``, which are also sentence-transformers' ``uint8``: each dimension's range in a
sample, from smallest to largest value, in 256 equal steps. They are decoded to the middle of a step, as FAISS does and
as ``objectives.views`` simulates in training.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from retrieval_distill.errors import UserError, nearest
from retrieval_distill.runtime.stages import read_json, write_json

BITS = {"float32": 32, "float16": 16, "int8": 8, "binary": 1}
"""Bits per dimension of each storage."""


@dataclass(frozen=True)
class Storage:
    """A storage format for vectors of ``dimensions``; ``low`` and ``high`` are the ranges of 8-bit codes."""

    name: str
    dimensions: int
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()

    @classmethod
    def fit(cls, name: str, sample: np.ndarray) -> Storage:
        """Fit a storage to a sample of vectors, float32 [texts, dimensions]; only ``int8`` uses their values."""
        if name != "int8":
            return cls(name, sample.shape[1])
        return cls(name, sample.shape[1], tuple(sample.min(axis=0).tolist()), tuple(sample.max(axis=0).tolist()))

    @classmethod
    def open(cls, folder: Path) -> Storage:
        """Read what :meth:`save` wrote."""
        saved = read_json(folder / "storage.json")
        return cls(saved["name"], saved["dimensions"], tuple(saved["low"]), tuple(saved["high"]))

    def save(self, folder: Path) -> Storage:
        """Write ``storage.json``."""
        write_json(folder / "storage.json", asdict(self))
        return self

    @property
    def vector_bytes(self) -> int:
        """Bytes of one vector."""
        return -(-self.dimensions * BITS[self.name] // 8)

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Encode float32 vectors [rows, dimensions] for storage: [rows, dimensions], or [rows, bytes] for signs."""
        if self.name in ("float32", "float16"):
            return vectors.astype(self.name)
        from sentence_transformers.util.quantization import quantize_embeddings

        if self.name == "int8":
            return np.asarray(quantize_embeddings(vectors, "uint8", ranges=np.array([self.low, self.high], np.float32)))
        return np.asarray(quantize_embeddings(vectors, "ubinary"))

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Decode stored vectors to float32 [rows, dimensions]; signs become vectors of length 1."""
        if self.name == "int8":
            low, high = np.array([self.low, self.high], np.float32)
            return low + (codes.astype(np.float32) + 0.5) / 255 * (high - low)
        if self.name == "binary":
            signs = np.unpackbits(codes, axis=1, count=self.dimensions).astype(np.float32) * 2 - 1
            return signs * np.float32(self.dimensions**-0.5)
        return codes.astype(np.float32, copy=False)


def check(name: str) -> None:
    """Refuse an unknown storage.

    Raises:
        UserError: It is unknown.
    """
    if name not in BITS:
        raise UserError(f"storage {name!r} is unknown{nearest(name, BITS)}")
