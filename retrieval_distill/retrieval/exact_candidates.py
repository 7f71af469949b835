"""Which documents can be among the best of a query at all: products in a fast dtype, and how wrong they may be.

bfloat16 multiplies several times as fast as float32 where a CPU has it. A document whose product, rounding errors
granted, is below those of ``depth`` others cannot be among the best; the few that remain are worth an exact product.
Knows matrices; must not know files, models or ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from retrieval_distill.hardware import devices

OVERFLOW = 2.0**126
"""Products of vectors whose lengths' product is below this, and all that rounds or adds up to them, are numbers."""


def dtype() -> torch.dtype:
    """bfloat16 on a CPU that multiplies it natively; a GPU may also add in it, which would void the error bound."""
    return torch.bfloat16 if devices.device() == "cpu" and devices.has_fast_bfloat16("cpu") else torch.float32


@dataclass(frozen=True)
class Rounded:
    """Vectors in the coarse dtype, and what is known of those they were made of."""

    vectors: torch.Tensor
    """[vectors, dimensions]"""
    lengths: np.ndarray
    """Of the vectors as they were, float64 [vectors]."""
    moved: np.ndarray
    """How far rounding has moved each of them, float64 [vectors]."""


def rounded(vectors: np.ndarray) -> Rounded:
    """Bring float32 vectors [vectors, dimensions] to the device and the coarse dtype."""
    given = torch.from_numpy(np.require(vectors, requirements="W")).to(devices.device())
    there = given.to(dtype())
    return Rounded(there, _lengths(given), _lengths(given - there))


def _lengths(vectors: torch.Tensor) -> np.ndarray:
    """Lengths, and as much more as squares too small for float32 may have been."""
    lengths = torch.linalg.vector_norm(vectors, dim=1).cpu().numpy().astype(np.float64)
    return np.sqrt(lengths**2 + vectors.shape[1] * np.finfo(np.float32).tiny)


PAIR = np.dtype([("query", np.int32), ("value", np.float32), ("row", np.int64)])


class Candidates:
    """The documents that may be among the best of some queries, as documents are offered block by block.

    Args:
        queries: float32 [queries, dimensions].
        depth: How many documents count as the best.
    """

    def __init__(self, queries: np.ndarray, depth: int) -> None:
        self.depth = depth
        self._queries = rounded(queries)
        self._longest, self._moved = 0.0, 0.0  # of the documents, at most
        self._kth = np.full(len(queries), -np.inf, np.float32)  # the depth-th largest product of each query, or less
        self._held = np.empty(2 * depth * len(queries), PAIR)  # one piece: many small ones would split the heap
        self._count = 0

    def offer(self, documents: Rounded, first_row: int) -> None:
        """Look at some documents."""
        self._longest = max(self._longest, documents.lengths.max())
        self._moved = max(self._moved, documents.moved.max())
        products = self._queries.vectors @ documents.vectors.T
        if self._queries.lengths.max() * self._longest >= OVERFLOW:
            products.nan_to_num_(torch.inf)  # infinite sums of both signs: it may be anything
        if products.shape[1] >= self.depth and not np.isfinite(self._kth).all():
            self._raise(np.partition(products.float().cpu().numpy(), -self.depth, axis=1)[:, -self.depth])
        places, values = _reaching(products, self._floor())
        query, column = np.divmod(places, products.shape[1])
        self._hold(query, column + first_row, values)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of queries, and of the documents that may be among the best of each, which ascend for every query."""
        self._prune()
        held = self._held[: self._count]
        return held["query"].copy(), held["row"].copy()

    def _hold(self, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> None:
        if self._count + len(query) > len(self._held):
            self._prune()
            free = np.empty(max(len(self._held) - self._count, self._count + 2 * len(query)), PAIR)
            self._held = np.concatenate([self._held[: self._count], free])
        new = self._held[self._count : self._count + len(query)]
        new["query"], new["row"], new["value"] = query, row, value
        self._count += len(query)

    def _raise(self, kth: np.ndarray) -> None:
        self._kth = np.fmax(self._kth, kth)

    def _prune(self) -> None:
        """Drop what is held although better documents have since come."""
        held = self._held[: self._count]
        self._raise(_kth_largest(held["query"], held["value"], len(self._kth), self.depth))
        above = np.flatnonzero(held["value"] >= self._floor()[held["query"]])
        self._count = len(above)
        self._held[: self._count] = held[above]

    def _floor(self) -> np.ndarray:
        """Below this, no document can be as good as the ``depth``-th: two errors of a product further down [queries].

        Rounding moves q to q' and x to x', float32 adds up the d products, and their sum p is rounded; so with unit
        roundoff u, p is wrong by at most e + u |p|, where e = |q - q'| |x| + |q'| |x - x'| + d 2^-23 |q| |x|. The
        factor 1 + 8u stands for terms of higher order, ``lost`` for numbers that are taken for 0, being smaller than
        the smallest normal one. Where products may overflow, nothing is known of any document.
        Higham, Accuracy and Stability of Numerical Algorithms, 2002, sections 2.1 and 3.1.
        """
        asked, roundoff, dimensions = self._queries, torch.finfo(dtype()).eps / 2, self._queries.vectors.shape[1]
        both = asked.lengths * self._longest
        error = asked.moved * self._longest + (asked.lengths + asked.moved) * self._moved + dimensions * 2.0**-23 * both
        lost = dimensions * (4 + asked.lengths + self._longest) * np.finfo(np.float32).tiny
        kth = self._kth.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinite less infinite
            floor = kth - 2 * (1 + 8 * roundoff) * (error + roundoff * np.abs(kth) + lost)
        known = np.isfinite(floor) & (both < OVERFLOW)
        return np.nextafter(np.where(known, floor, -np.inf).astype(np.float32), np.float32(-np.inf))


def sort_keys(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Whole numbers in the order of group, then value: numpy sorts them several times as fast as two columns.

    Args:
        group: Whole numbers below 2^31.
        value: float32; 0 and -0 are equal.
    """
    bits = (value + np.float32(0)).view(np.int32)
    return (group.astype(np.int64) << 32) + (bits ^ ((bits >> 31) & 0x7FFFFFFF))  # negative floats ascend downwards


def _kth_largest(group: np.ndarray, value: np.ndarray, groups: int, k: int) -> np.ndarray:
    """The k-th largest value of each group, -inf where it has fewer."""
    order = np.sort(sort_keys(group, value))
    counts = np.bincount(group, minlength=groups)
    enough = counts >= k
    bits = order[(np.cumsum(counts) - k)[enough]].astype(np.int32)
    kth = np.full(groups, -np.inf, np.float32)
    kth[enough] = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)
    return kth


def _reaching(products: torch.Tensor, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where, in the flattened products, they reach the floor of their row, or nearly; and the values there."""
    if not products.is_cpu:
        places = (products >= torch.from_numpy(floor).to(products.device)[:, None]).flatten().nonzero()[:, 0]
    else:  # numpy compares several times as fast as torch
        table, least = _as_numbers(products, floor)
        places = torch.from_numpy(np.flatnonzero(table >= least[:, None]))
    return places.cpu().numpy(), products.flatten()[places].float().cpu().numpy()


def _as_numbers(products: torch.Tensor, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products and floors in a dtype that numpy has, in which what reaches its floor still does."""
    if products.dtype == torch.bfloat16 and (floor > 0).all():
        # the bits of positive numbers are in their order, those of negative ones negative; a floor cut off is lower
        return products.view(torch.int16).numpy(), (floor.view(np.int32) >> 16).astype(np.int16)
    return products.float().numpy(), floor
