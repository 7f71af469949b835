"""The best documents of some queries by exact products, of which a cheaper first look leaves few to compute.

A document whose coarse product is below the ``depth``-th exact one by more than its error cannot be among the best.
Knows matrices; must not know files, models or ids.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch

from retrieval_distill.retrieval import coarse
from retrieval_distill.retrieval.coarse import Look

FEW = 0.25
"""Share of a look's pairs up to which their exact products cost less than a closer look."""

PAIR = np.dtype([("query", np.int32), ("value", np.float32), ("row", np.int64)])


class Documents:
    """A block of documents, rounded once for all queries.

    Args:
        vectors: float32 [documents, dimensions].
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self.vectors = vectors
        self.looks = coarse.rounded(vectors, one_step=True)


class Best:
    """Keeps the best documents of some queries, from blocks of documents.

    Args:
        queries: float32 [queries, dimensions].
        depth: Number of best documents.
    """

    def __init__(self, queries: np.ndarray, depth: int) -> None:
        self.depth = depth
        self._queries = queries
        self._looks = coarse.rounded(queries, one_step=False)
        self._kth = np.full(len(queries), np.nan, np.float32)  # at most each query's depth-th largest product, if known
        self._held = np.empty(2 * depth * len(queries), PAIR)  # one allocation: many small ones would fragment the heap
        self._count = 0

    def offer(self, documents: Documents, first_row: int) -> None:
        """Process a block of documents, which follow those of the block before."""
        columns = len(documents.vectors)
        query, column = np.divmod(self._places(documents), columns)
        values = products(self._queries, documents.vectors, query, column)
        better = np.flatnonzero(~(values <= self._kth[query]))  # as good as the depth-th: an earlier document
        self._hold(query[better], column[better] + first_row, values[better])

    def _places(self, documents: Documents) -> np.ndarray:
        """Places of the pairs that may be among the best, in a flattened table of queries and documents."""
        unknown = np.flatnonzero(np.isnan(self._kth))
        for queries, block in zip(self._looks, documents.looks, strict=True):
            look = Look(queries, block)
            if len(unknown) and look.products.shape[1] >= self.depth:
                self._kth[unknown] = np.fmax(self._kth[unknown], look.kth(unknown, self.depth))
            places = look.reaching(self._kth)
            if len(places) <= FEW * look.products.numel():
                break
        return places

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Products and rows, both [queries, depth], best first, ties by row; rows are -1 if there are no more."""
        self._prune()
        held = self._held[: self._count]
        query, value = held["query"], held["value"]
        order = np.argsort(sort_keys(query, -value), kind="stable")  # rows ascend within every query
        counts = np.bincount(query, minlength=len(self._kth))
        rank = np.arange(len(held)) - np.repeat(np.cumsum(counts) - counts, counts)
        kept, rank = order[rank < self.depth], rank[rank < self.depth]
        scores = np.full((len(self._kth), self.depth), -np.inf, np.float32)
        rows = np.full((len(self._kth), self.depth), -1, np.int64)
        scores[query[kept], rank] = value[kept]
        rows[query[kept], rank] = held["row"][kept]
        return scores, rows

    def _hold(self, query: np.ndarray, row: np.ndarray, value: np.ndarray) -> None:
        end = self._count + len(query)
        if end > len(self._held):
            self._held = np.concatenate([self._held[: self._count], np.empty(len(query), PAIR)])
        new = self._held[self._count : end]
        new["query"], new["row"], new["value"] = query, row, value
        self._count = end
        if end >= 2 * self.depth * len(self._queries):
            self._prune()

    def _prune(self) -> None:
        """Drop documents that better ones have since ruled out."""
        held = self._held[: self._count]
        self._kth = np.fmax(self._kth, _kth_largest(held["query"], held["value"], len(self._kth), self.depth))
        kept = np.flatnonzero(~(held["value"] < self._kth[held["query"]]))
        self._count = len(kept)
        self._held[: self._count] = held[kept]


def products(queries: np.ndarray, documents: np.ndarray, query_rows: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Inner products of pairs, float32 [pairs]; a pair's value does not depend on the others.

    Args:
        queries: float32 [queries, dimensions].
        documents: float32 [documents, dimensions].
        query_rows: The pairs' queries, ascending.
        rows: The pairs' documents.
    """
    if not len(rows):
        return np.empty(0, np.float32)
    starts = torch.from_numpy(np.searchsorted(query_rows, np.arange(len(queries) + 1)))
    shape = (len(queries), len(documents))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        pairs = torch.sparse_csr_tensor(
            starts, torch.from_numpy(rows), torch.zeros(len(rows)), shape, check_invariants=False
        )
    left, right = (torch.from_numpy(np.require(vectors, np.float32, "W")) for vectors in (queries, documents))
    values = torch.sparse.sampled_addmm(pairs, left, right.T, beta=0).values().numpy()
    return np.nan_to_num(values, copy=False, nan=-np.inf, posinf=np.inf, neginf=-np.inf)  # infinities of both signs


def sort_keys(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Integers that sort by group, then value; numpy sorts them several times as fast as two columns.

    Args:
        group: Integers below 2^31.
        value: float32; 0 and -0 are equal.
    """
    bits = (value + np.float32(0)).view(np.int32)
    return (group.astype(np.int64) << 32) + (bits ^ ((bits >> 31) & 0x7FFFFFFF))  # negative floats have reversed order


def _kth_largest(group: np.ndarray, value: np.ndarray, groups: int, k: int) -> np.ndarray:
    """The k-th largest value of each group; NaN if it has fewer."""
    order = np.sort(sort_keys(group, value))
    counts = np.bincount(group, minlength=groups)
    enough = counts >= k
    bits = order[(np.cumsum(counts) - k)[enough]].astype(np.int32)
    kth = np.full(groups, np.nan, np.float32)
    kth[enough] = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.float32)
    return kth
