"""The index kinds: FAISS factory string, cost, and search parameters of each.

Knows FAISS's factory strings and rules of thumb; must not know files, models or ids. Sources: FAISS's wiki, "Guidelines
to choose an index"; Johnson, Douze and Jegou, "Billion-scale similarity search with GPUs", 2017 (arXiv 1702.08734);
Malkov and Yashunin, 2016 (arXiv 1603.09320), for the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from retrieval_distill.errors import UserError, nearest

POINTS_PER_CENTROID = 39
"""Number of vectors FAISS wants for each centroid that it trains."""

TRAINING_VECTORS = 50_000
"""Number of vectors a quantiser is trained on, unless its centroids need more."""

MIN_TRAINING_VECTORS = 256
"""Fewest vectors that can train a product quantiser, since each part has as many centroids."""

RESCORES = (0, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Rescoring depths to try for a lossy kind: documents retrieved per document requested."""


@dataclass(frozen=True)
class Kind:
    """An index kind.

    Args:
        factory: FAISS factory string; ``{lists}`` and ``{parts}`` are filled in.
        bytes: Bytes of memory per vector, given its dimensions.
        loses: Whether vectors are stored inexactly, so that rescoring helps.
        knob: FAISS's name of the search parameter; ``None``: there is none.
        settings: Values of the parameter to try, fastest to most thorough.
        setting: The default value, without tuning.
        rescore: The default rescoring depth; 0: none.
        growth: Adding time grows with the number of vectors to this power.
        training_growth: Training time grows with the number of training vectors to this power.
        gpu: Whether it is built and searched on a GPU if FAISS has one.
    """

    factory: str
    bytes: Callable[[int], float]
    loses: bool = False
    knob: str | None = None
    settings: tuple[int, ...] = ()
    setting: int | None = None
    rescore: int = 0
    growth: float = 1.0
    training_growth: float = 1.0
    gpu: bool = False

    @property
    def binary(self) -> bool:
        """Whether it holds signs and compares them by Hamming distance."""
        return self.factory.startswith("B")


def powers_of_two(first: int, last: int) -> tuple[int, ...]:
    """The powers of two from ``first`` to ``last``."""
    return tuple(1 << power for power in range(first.bit_length() - 1, last.bit_length()))


KINDS = {
    "flat": Kind("Flat", lambda d: 4 * d, gpu=True),
    "hnsw": Kind("HNSW32", lambda d: 4 * d + 270, knob="efSearch", settings=powers_of_two(16, 2048), setting=64,
                 growth=1.15),
    "ivf": Kind("IVF{lists},Flat", lambda d: 4 * d + 8, knob="nprobe", settings=powers_of_two(1, 1024), setting=16,
                growth=1.5, training_growth=2.0, gpu=True),
    "ivf-pq": Kind("IVF{lists},PQ{parts}np", lambda d: parts(d) + 8, loses=True, knob="nprobe",
                   settings=powers_of_two(4, 1024), setting=16, rescore=8, growth=1.5),
    "sq8": Kind("SQ8", lambda d: d, loses=True),
    "binary": Kind("BFlat", lambda d: -(-d // 8), loses=True, rescore=8),
}  # fmt: skip
"""Exact search; a graph; lists around centroids; the same with product-quantised vectors (about 16x smaller); 8-bit
vectors (4x smaller); signs (32x smaller). ``np`` skips the training of polysemous codes, which nothing here uses."""

UNTYPED: Any = faiss
"""FAISS, for names and overloads that its type stubs lack."""

SEARCH_PARAMETERS = {
    None: UNTYPED.SearchParameters,
    "efSearch": UNTYPED.SearchParametersHNSW,
    "nprobe": UNTYPED.SearchParametersIVF,
}
"""FAISS's class of search parameters for each parameter."""


def get_kind(name: str) -> Kind:
    """A kind by its name.

    Raises:
        UserError: The kind is unknown.
    """
    if name not in KINDS:
        raise UserError(f"index kind {name!r} is unknown{nearest(name, [*KINDS, 'auto'])}")
    return KINDS[name]


def lists(documents: int) -> int:
    """Number of lists of an inverted file: 4 sqrt(documents), if each centroid has enough training vectors."""
    return max(1, min(int(4 * math.sqrt(documents)), documents // POINTS_PER_CENTROID))


def parts(dimensions: int) -> int:
    """Bytes of a product-quantised vector: the largest divisor that leaves at least four dimensions per byte."""
    return next(count for count in range(max(1, dimensions // 4), 0, -1) if dimensions % count == 0)


def training_vectors(kind: Kind, documents: int) -> int:
    """Number of training vectors that the kind needs before any is added; 0: none."""
    if kind.factory in ("Flat", "HNSW32", "BFlat"):
        return 0
    wanted = POINTS_PER_CENTROID * lists(documents) if "{lists}" in kind.factory else 0
    return min(documents, max(wanted, TRAINING_VECTORS))


def empty_index(kind: Kind, documents: int, dimensions: int) -> Any:
    """An empty FAISS index of the kind, sized for a number of vectors.

    Raises:
        UserError: A product quantiser would have fewer vectors than it has centroids.
    """
    if kind.binary:
        return faiss.index_binary_factory(8 * -(-dimensions // 8), kind.factory)
    if "{parts}" in kind.factory and documents < MIN_TRAINING_VECTORS:
        raise UserError(f"kind ivf-pq needs {MIN_TRAINING_VECTORS} documents; there are {documents}: use kind flat")
    factory = kind.factory.format(lists=lists(documents), parts=parts(dimensions))
    index = UNTYPED.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    if "{parts}" in kind.factory:
        index.pq.cp.min_points_per_centroid = 1  # a small corpus has fewer, and FAISS would warn for every part
    return index


def encode(kind: Kind, vectors: np.ndarray) -> np.ndarray:
    """Float32 vectors as the index takes them: unchanged, or as signs, eight per byte."""
    return np.packbits(vectors > 0, axis=1) if kind.binary else vectors
