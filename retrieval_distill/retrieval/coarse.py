"""A first look at inner products: rounded vectors whose products are cheap, and how far these are from exact ones.

Eight-bit products take about half the time of float32 ones on a CPU (``scripts/bench_int8.py``). Knows vectors and
processors; must not know files, models or ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from retrieval_distill.hardware import devices

OVERFLOW = 2.0**126
"""If the product of two vectors' lengths is below this, their inner product cannot overflow."""

TINY_STEP = 2.0**-100
"""Step of eight-bit numbers below which float32 might lose them; shorter vectors are rounded to 0."""

FEWEST_DIMENSIONS = 8
"""Dimensions from which eight bits are used: with a single one PyTorch's product is wrong, with few float32 is fast."""


@dataclass(frozen=True)
class Rounded:
    """Vectors rounded to multiples of a step, with what the error bound needs."""

    numbers: torch.Tensor
    """int8, or float32 if nothing was rounded, [vectors, dimensions]."""
    steps: np.ndarray
    """What the numbers are multiples of, float64 [vectors]."""
    lengths: np.ndarray
    """Lengths of the original vectors, float64 [vectors]."""
    moved: np.ndarray
    """Distance that rounding moved each vector, float64 [vectors]."""


def rounded(vectors: np.ndarray, one_step: bool) -> list[Rounded]:
    """Vectors for a first look, and for a closer one where the first says too little.

    Args:
        vectors: float32 [vectors, dimensions].
        one_step: Whether all vectors get the same step, which documents need.
    """
    given = torch.from_numpy(np.require(vectors, np.float32, "W")).to(devices.device())
    lengths = _lengths(given)
    whole = Rounded(given, np.ones(len(given)), lengths, np.zeros(len(given)))
    levels = int8_levels(vectors.shape[1])
    return [_int8(given, lengths, levels, one_step), whole] if levels else [whole]


def _int8(given: torch.Tensor, lengths: np.ndarray, levels: int, one_step: bool) -> Rounded:
    low, high = given.aminmax() if one_step else given.aminmax(dim=1, keepdim=True)
    steps = (torch.maximum(-low, high) / levels).clamp(min=TINY_STEP)
    multiples = given * steps.reciprocal()
    whole = multiples.round()
    each = steps.flatten().expand(len(given)).cpu().numpy().astype(np.float64)
    moved = each * _lengths(multiples.sub_(whole)) + 2.0**-22 * lengths  # reciprocal and multiples are rounded
    return Rounded(whole.to(torch.int8), each, lengths, moved)


def _lengths(vectors: torch.Tensor) -> np.ndarray:
    """Upper bounds of lengths, since squares too small for float32 may be lost."""
    lengths = torch.linalg.vector_norm(vectors, dim=1).cpu().numpy().astype(np.float64)
    return np.sqrt(lengths**2 + vectors.shape[1] * np.finfo(np.float32).tiny)


@lru_cache
def int8_levels(dimensions: int) -> int:
    """The largest eight-bit number whose products come out exact here; 0 if float32 is the better look.

    Without VNNI, pairs of products are added up in 16 bits and cut off there: (128 + 79) 79 + (128 + 79) 79 still fits,
    as one side is shifted by 128. Which instructions a product will use depends on the library and the environment, so
    that it is tried.
    """
    if dimensions < FEWEST_DIMENSIONS or not devices.has_fast_int8(devices.device()):
        return 0
    return next((levels for levels in (127, 79) if _is_exact(levels, dimensions)), 0)


def _is_exact(levels: int, dimensions: int) -> bool:
    """Whether products of the largest numbers of both signs are exact, of one query and of many."""
    signs = torch.tensor([1, -1], dtype=torch.int8).repeat(32)[:, None]
    largest = (signs * levels).expand(-1, dimensions).contiguous()
    exact = torch.full((64, 64), levels**2 * dimensions, dtype=torch.int64) * signs * signs.T
    return all(
        torch.equal(torch._int_mm(largest[:rows], largest[:columns].T).long(), exact[:rows, :columns])
        for rows, columns in ((64, 64), (1, 64), (64, 1), (2, 2))
    )


class Look:
    """Products of every query and document, and bounds for what float32 makes of the original vectors."""

    def __init__(self, queries: Rounded, documents: Rounded) -> None:
        self.unit = queries.steps * documents.steps.max()
        self.error = _error(queries, documents)
        if queries.numbers.dtype == torch.int8:
            self.products = torch._int_mm(queries.numbers, documents.numbers.T)
        else:
            self.products = queries.numbers @ documents.numbers.T
            if queries.lengths.max() * documents.lengths.max() >= OVERFLOW:
                self.products.nan_to_num_(torch.inf)  # infinite terms of both signs: the product could be anything

    def kth(self, queries: np.ndarray, depth: int) -> np.ndarray:
        """For some queries a float32 below their ``depth``-th largest product; NaN if that could be anything."""
        table = self.products[torch.from_numpy(queries)].cpu().numpy()
        with np.errstate(invalid="ignore"):
            kth = np.partition(table, -depth, axis=1)[:, -depth] * self.unit[queries]
            below = _below(kth - self.error[queries])
        return np.where(np.isfinite(below), below, np.float32(np.nan))

    def reaching(self, least: np.ndarray) -> np.ndarray:
        """Places in the flattened products whose float32 product may reach the least one of their query.

        Args:
            least: float32 [queries]; NaN: any product.
        """
        with np.errstate(invalid="ignore", over="ignore"):
            floor = (least.astype(np.float64) - self.error) / self.unit
        if self.products.dtype == torch.int32:
            limits = np.iinfo(np.int32)
            whole = np.where(np.isfinite(floor), np.clip(np.floor(floor) - 1, limits.min, limits.max), limits.min)
            least = whole.astype(np.int32)
        else:
            least = _below(floor)
        if not self.products.is_cpu:
            reach = self.products >= torch.from_numpy(least).to(self.products.device)[:, None]
            return reach.flatten().nonzero()[:, 0].cpu().numpy()
        return np.flatnonzero(self.products.numpy() >= least[:, None])  # several times as fast as torch


def _below(bounds: np.ndarray) -> np.ndarray:
    """The next float32 below; -infinity for what is not finite."""
    known = np.where(np.isfinite(bounds), bounds, -np.inf)
    with np.errstate(over="ignore"):
        return np.nextafter(known.astype(np.float32), np.float32(-np.inf))


def _error(queries: Rounded, documents: Rounded) -> np.ndarray:
    """How far products may be from those in float32, for each query and the documents' worst, float64 [queries].

    Rounding moves q to q' and x to x', which changes their product by at most |q - q'| |x| + |q'| |x - x'|. float32
    adds up d products, here and where it is exact: 2 d 2^-24 |q| |x|. A hundredth covers terms of higher order and the
    rounding of lengths; ``lost`` are numbers below the smallest normal one, which are rounded to 0. Infinite if
    products may overflow. Higham, Accuracy and Stability of Numerical Algorithms, 2002, sections 2.1 and 3.1.
    """
    dimensions, longest = queries.numbers.shape[1], documents.lengths.max()
    both = queries.lengths * longest
    lost = dimensions * (4 + queries.lengths + longest) * np.finfo(np.float32).tiny
    with np.errstate(invalid="ignore"):  # infinity times zero
        moved = queries.moved * longest + (queries.lengths + queries.moved) * documents.moved.max()
        error = 1.01 * (moved + (dimensions + 8) * 2.0**-23 * both) + lost
    return np.where(both < OVERFLOW, error, np.inf)
