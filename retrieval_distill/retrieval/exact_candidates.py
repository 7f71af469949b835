"""Finds the documents that can be among the best of a query, by products in a fast dtype with an error bound.

bfloat16 products are several times as fast as float32 on a CPU that supports them. A document whose product is below
those of ``depth`` others by more than rounding errors cannot be among the best; the few others get an exact product.
Knows matrices; must not know files, models or ids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from retrieval_distill.hardware import devices

OVERFLOW = 2.0**126
"""If the product of two vectors' lengths is below this, their inner product cannot overflow."""


def dtype() -> torch.dtype:
    """bfloat16 on a CPU that supports it natively; a GPU may also add in bfloat16, which would void the error bound."""
    return torch.bfloat16 if devices.device() == "cpu" and devices.has_fast_bfloat16("cpu") else torch.float32


@dataclass(frozen=True)
class Rounded:
    """Vectors in the coarse dtype, with what the error bound needs."""

    vectors: torch.Tensor
    """[vectors, dimensions]"""
    lengths: np.ndarray
    """Lengths of the original vectors, float64 [vectors]."""
    moved: np.ndarray
    """Distance that rounding moved each vector, float64 [vectors]."""


def round_vectors(vectors: np.ndarray) -> Rounded:
    """Move float32 vectors [vectors, dimensions] to the device and round them to the coarse dtype."""
    given = torch.from_numpy(np.require(vectors, requirements="W")).to(devices.device())
    there = given.to(dtype())
    return Rounded(there, _lengths(given), _lengths(given - there))


def _lengths(vectors: torch.Tensor) -> np.ndarray:
    """Upper bounds of lengths, since squares too small for float32 may be lost."""
    lengths = torch.linalg.vector_norm(vectors, dim=1).cpu().numpy().astype(np.float64)
    return np.sqrt(lengths**2 + vectors.shape[1] * np.finfo(np.float32).tiny)


PAIR = np.dtype([("query", np.int32), ("value", np.float32), ("row", np.int64)])


class Candidates:
    """Collects the documents that may be among the best of some queries, from blocks of documents.

    Args:
        queries: float32 [queries, dimensions].
        depth: Number of best documents.
    """

    def __init__(self, queries: np.ndarray, depth: int) -> None:
        self.depth = depth
        self._queries = round_vectors(queries)
        self._longest, self._moved = 0.0, 0.0  # upper bounds for the documents
        self._kth = np.full(len(queries), -np.inf, np.float32)  # lower bound of each query's depth-th largest product
        self._held = np.empty(2 * depth * len(queries), PAIR)  # one allocation: many small ones would fragment the heap
        self._count = 0

    def offer(self, documents: Rounded, first_row: int) -> None:
        """Process a block of documents."""
        self._longest = max(self._longest, documents.lengths.max())
        self._moved = max(self._moved, documents.moved.max())
        products = self._queries.vectors @ documents.vectors.T
        if self._queries.lengths.max() * self._longest >= OVERFLOW:
            products.nan_to_num_(torch.inf)  # infinite terms of both signs: the product could be anything
        if products.shape[1] >= self.depth and not np.isfinite(self._kth).all():
            self._raise(np.partition(products.float().cpu().numpy(), -self.depth, axis=1)[:, -self.depth])
        places, values = _reaching_floor(products, self._floor())
        query, column = np.divmod(places, products.shape[1])
        self._hold(query, column + first_row, values)

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of query rows and candidate document rows; the latter ascend for every query."""
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
        """Drop candidates that better documents have since ruled out."""
        held = self._held[: self._count]
        self._raise(_kth_largest(held["query"], held["value"], len(self._kth), self.depth))
        above = np.flatnonzero(held["value"] >= self._floor()[held["query"]])
        self._count = len(above)
        self._held[: self._count] = held[above]

    def _floor(self) -> np.ndarray:
        """Product below which no document can reach the ``depth``-th one, two error bounds below it, [queries].

        Rounding moves q to q' and x to x', float32 adds up the d products, and their sum p is rounded; so with unit
        roundoff u, p is wrong by at most e + u |p|, where e = |q - q'| |x| + |q'| |x - x'| + d 2^-23 |q| |x|. The
        factor 1 + 8u covers terms of higher order, ``lost`` numbers below the smallest normal one, which are rounded to
        0. If products may overflow, no document can be ruled out.
        Higham, Accuracy and Stability of Numerical Algorithms, 2002, sections 2.1 and 3.1.
        """
        queries, roundoff, dimensions = self._queries, torch.finfo(dtype()).eps / 2, self._queries.vectors.shape[1]
        both = queries.lengths * self._longest
        moved = queries.moved * self._longest + (queries.lengths + queries.moved) * self._moved
        error = moved + dimensions * 2.0**-23 * both
        lost = dimensions * (4 + queries.lengths + self._longest) * np.finfo(np.float32).tiny
        kth = self._kth.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            floor = kth - 2 * (1 + 8 * roundoff) * (error + roundoff * np.abs(kth) + lost)
        known = np.isfinite(floor) & (both < OVERFLOW)
        return np.nextafter(np.where(known, floor, -np.inf).astype(np.float32), np.float32(-np.inf))


def sort_keys(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Integers that sort by group, then value; numpy sorts them several times as fast as two columns.

    Args:
        group: Integers below 2^31.
        value: float32; 0 and -0 are equal.
    """
    bits = (value + np.float32(0)).view(np.int32)
    return (group.astype(np.int64) << 32) + (bits ^ ((bits >> 31) & 0x7FFFFFFF))  # negative floats have reversed order


def _kth_largest(group: np.ndarray, value: np.ndarray, groups: int, k: int) -> np.ndarray:
    """The k-th largest value of each group; -inf if it has fewer."""
    order = np.sort(sort_keys(group, value))
    counts = np.bincount(group, minlength=groups)
    enough = counts >= k
    bits = order[(np.cumsum(counts) - k)[enough]].astype(np.int32)
    kth = np.full(groups, -np.inf, np.float32)
    kth[enough] = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)
    return kth


def _reaching_floor(products: torch.Tensor, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions in the flattened products that (nearly) reach the floor of their row, and their values."""
    if not products.is_cpu:
        places = (products >= torch.from_numpy(floor).to(products.device)[:, None]).flatten().nonzero()[:, 0]
    else:  # numpy compares several times as fast as torch
        table, least = _as_numbers(products, floor)
        places = torch.from_numpy(np.flatnonzero(table >= least[:, None]))
    return places.cpu().numpy(), products.flatten()[places].float().cpu().numpy()


def _as_numbers(products: torch.Tensor, floor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Products and floors in a dtype of numpy in which every product that reaches its floor still does."""
    if products.dtype == torch.bfloat16 and (floor > 0).all():
        # bits of positive floats sort like the floats, those of negative ones are negative; a truncated floor is lower
        return products.view(torch.int16).numpy(), (floor.view(np.int32) >> 16).astype(np.int16)
    return products.float().numpy(), floor
