"""Which documents can be among the best of a query at all: products in a fast dtype, and how wrong they may be.

bfloat16 multiplies several times as fast as float32 where a CPU has it. A document whose product, rounding errors
granted, is below those of ``depth`` others cannot be among the best; the few that remain are worth an exact product.
Knows matrices; must not know files, models or ids.
"""

from __future__ import annotations

import numpy as np
import torch

from retrieval_distill import hardware

PRUNE_AT = 4_000_000
"""Pairs held at once, before those that have since been left behind are dropped: about 60 MB."""


def dtype() -> torch.dtype:
    """bfloat16 on a CPU that multiplies it natively; a GPU may also add in it, which would void the error bound."""
    return torch.bfloat16 if hardware.device() == "cpu" and hardware.has_fast_bfloat16("cpu") else torch.float32


class Candidates:
    """The documents that may be among the best of some queries, as documents are offered block by block.

    Args:
        queries: float32 [queries, dimensions].
        depth: How many documents count as the best.
    """

    def __init__(self, queries: np.ndarray, depth: int) -> None:
        self.depth = depth
        self._queries = torch.from_numpy(queries).to(hardware.device(), dtype())
        self._norms = np.linalg.norm(queries, axis=1, keepdims=True)
        self._longest = 0.0
        self._best = np.full((len(queries), depth), -np.inf, np.float32)
        self._held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def offer(self, documents: torch.Tensor, longest: float, first_row: int) -> None:
        """Look at some documents' vectors, in the coarse dtype; the norm of none of them exceeds ``longest``."""
        self._longest = max(self._longest, longest)
        products = (self._queries @ documents.T).float()
        floor = torch.from_numpy(self._floor(self._kth(products))).to(products.device)
        places = np.flatnonzero((products >= floor).cpu().numpy())
        query, column = np.divmod(places, products.shape[1])
        values = products.flatten()[torch.from_numpy(places).to(products.device)].cpu().numpy()
        self._held.append((query.astype(np.int32), column + first_row, values))
        self._best = _largest(self._best, query, values)
        if sum(len(part[0]) for part in self._held) > PRUNE_AT:
            self._held = [self._pruned()]

    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of queries, and of the documents that may be among the best of each."""
        query, row, _ = self._pruned()
        return query, row

    def _kth(self, products: torch.Tensor) -> np.ndarray:
        """The depth-th largest product of each query so far; at first, among these: [queries, 1]."""
        kth = self._best.min(axis=1, keepdims=True)
        if np.isfinite(kth).all() or products.shape[1] < self.depth:
            return kth
        some = products[:, : 8 * self.depth]  # the depth-th of some is at most the depth-th of all
        return np.maximum(kth, some.topk(self.depth, dim=1).values[:, -1:].cpu().numpy())

    def _floor(self, kth: np.ndarray) -> np.ndarray:
        """Below this, no document can be as good as the one of product ``kth``: two errors of a product further down.

        With unit roundoff u, both factors and the product are rounded, and float32 adds up; so a product is wrong by at
        most (2u + u^2 + d 2^-23) |q| |x| + u |product|.
        Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1.
        """
        roundoff = torch.finfo(self._queries.dtype).eps / 2
        relative = 2 * roundoff + roundoff**2 + self._queries.shape[1] * 2.0**-23
        return (kth - 2 * (relative * self._norms * self._longest + roundoff * np.abs(kth))).astype(np.float32)

    def _pruned(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is held and still above the floor."""
        query, row, value = (np.concatenate(parts) for parts in zip(*self._held, strict=True))
        above = value >= self._floor(self._best.min(axis=1, keepdims=True))[query, 0]
        return query[above], row[above], value[above]


def _largest(best: np.ndarray, query: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The largest values of each query, in no order: of its ``best`` [queries, depth] and new ones, given by query."""
    counts = np.bincount(query, minlength=len(best))
    place = np.arange(len(query)) - (np.cumsum(counts) - counts)[query]
    new = np.full((len(best), int(counts.max(initial=0))), -np.inf, np.float32)
    new[query, place] = values
    depth = best.shape[1]
    return np.partition(np.concatenate([best, new], axis=1), -depth, axis=1)[:, -depth:]
