"""The kinds of index there are, as data: what FAISS builds, what it costs, and what is turned at search time.

Knows FAISS's factory strings and rules of thumb; must not know files, models or ids. Source of the rules: FAISS's wiki,
"Guidelines to choose an index"; Johnson, Douze and Jegou, "Billion-scale similarity search with GPUs", 2017
(arXiv 1702.08734); for the graph Malkov and Yashunin, 2016 (arXiv 1603.09320).
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
"""Vectors that FAISS wants for each centroid it trains."""

TRAINING_VECTORS = 50_000
"""Vectors a quantiser is trained on; more only where centroids ask for them."""

FEWEST_TO_TRAIN = 256
"""Centroids of each part of a product-quantised vector, so the fewest vectors that it can be trained on."""

RESCORES = (0, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""Rescoring depths tried for a kind that loses something, in documents looked up per document asked for."""


@dataclass(frozen=True)
class Kind:
    """An index kind.

    Args:
        factory: FAISS factory string; ``{lists}`` and ``{parts}`` are filled in.
        bytes: Memory of one vector by its dimensions, in bytes.
        loses: Whether vectors are stored inexactly, so that rescoring helps.
        knob: What a search may turn, as FAISS's search parameters name it; ``None``: nothing.
        settings: The knob's values to try, quick to thorough.
        setting: The one used where nobody has tuned it.
        rescore: Rescoring depth where nobody says otherwise; 0: none.
        growth: Adding takes time like the number of vectors to this power.
        training_growth: Training takes time like the number of vectors trained on to this power.
        gpu: Whether it is built and searched on a GPU, where there is one for FAISS.
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


def doubled(first: int, last: int) -> tuple[int, ...]:
    """The powers of two from one to another."""
    return tuple(1 << power for power in range(first.bit_length() - 1, last.bit_length()))


KINDS = {
    "flat": Kind("Flat", lambda d: 4 * d, gpu=True),
    "hnsw": Kind("HNSW32", lambda d: 4 * d + 270, knob="efSearch", settings=doubled(16, 2048), setting=64, growth=1.15),
    "ivf": Kind("IVF{lists},Flat", lambda d: 4 * d + 8, knob="nprobe", settings=doubled(1, 1024), setting=16,
                growth=1.5, training_growth=2.0, gpu=True),
    "ivf-pq": Kind("IVF{lists},PQ{parts}np", lambda d: parts(d) + 8, loses=True, knob="nprobe",
                   settings=doubled(4, 1024), setting=16, rescore=8, growth=1.5),
    "sq8": Kind("SQ8", lambda d: d, loses=True),
    "binary": Kind("BFlat", lambda d: -(-d // 8), loses=True, rescore=8),
}  # fmt: skip
"""Exact search; a graph; lists around centroids; the same with product-quantised vectors (about 16x smaller); 8-bit
vectors (4x smaller); signs (32x smaller). ``np`` leaves out the training of polysemous codes, used by nothing here."""

UNTYPED: Any = faiss
"""FAISS where its type stubs lack a name or an overload."""

SEARCH_PARAMETERS = {
    None: UNTYPED.SearchParameters,
    "efSearch": UNTYPED.SearchParametersHNSW,
    "nprobe": UNTYPED.SearchParametersIVF,
}
"""FAISS's class of search parameters by what it turns."""


def kind_named(name: str) -> Kind:
    """A kind by its name.

    Raises:
        UserError: There is none of that name.
    """
    if name not in KINDS:
        raise UserError(f"index kind {name!r} is unknown{nearest(name, [*KINDS, 'auto'])}")
    return KINDS[name]


def lists(documents: int) -> int:
    """Lists of an inverted file: four times the square root, as long as every centroid has its training vectors."""
    return max(1, min(int(4 * math.sqrt(documents)), documents // POINTS_PER_CENTROID))


def parts(dimensions: int) -> int:
    """Bytes of a product-quantised vector: the most that divide the dimensions with four of them or more in each."""
    return next(count for count in range(max(1, dimensions // 4), 0, -1) if dimensions % count == 0)


def training_vectors(kind: Kind, documents: int) -> int:
    """How many vectors the kind has to see before any is added; 0: none."""
    if kind.factory in ("Flat", "HNSW32", "BFlat"):
        return 0
    wanted = POINTS_PER_CENTROID * lists(documents) if "{lists}" in kind.factory else 0
    return min(documents, max(wanted, TRAINING_VECTORS))


def empty_index(kind: Kind, documents: int, dimensions: int) -> Any:
    """An empty FAISS index of the kind for so many vectors.

    Raises:
        UserError: A product quantiser would have fewer vectors than it has centroids.
    """
    if kind.binary:
        return faiss.index_binary_factory(8 * -(-dimensions // 8), kind.factory)
    if "{parts}" in kind.factory and documents < FEWEST_TO_TRAIN:
        raise UserError(f"kind ivf-pq needs {FEWEST_TO_TRAIN} documents; there are {documents}: use kind flat")
    factory = kind.factory.format(lists=lists(documents), parts=parts(dimensions))
    index = UNTYPED.index_factory(dimensions, factory, faiss.METRIC_INNER_PRODUCT)
    if "{parts}" in kind.factory:
        index.pq.cp.min_points_per_centroid = 1  # a small corpus has fewer, and FAISS would say so for every part
    return index


def encoded(kind: Kind, vectors: np.ndarray) -> np.ndarray:
    """Float32 vectors as the index takes them: themselves, or their signs, eight in a byte."""
    return np.packbits(vectors > 0, axis=1) if kind.binary else vectors
