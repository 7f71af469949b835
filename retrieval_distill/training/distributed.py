"""Several processes on one step: each embeds its share of the texts, and every one sees every vector.

All processes draw the same global step and compute the same loss over it, so an objective cannot tell how many
there are: in-batch documents, means over pairs and texts that queries share are those of one process. Knows rows and
vectors; must not know models or objectives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, distributed

from retrieval_distill.runtime.processes import count, rank

T = TypeVar("T")


def from_first(work: Callable[[], T]) -> T:
    """What ``work`` gives in the first process, in every process; the others wait for it."""
    return broadcast_object_list([work() if rank() == 0 else None])[0]


def shares(lengths: np.ndarray) -> list[np.ndarray]:
    """The rows of each process: dealt out by length, so that all have as much to do."""
    order = np.argsort(-lengths, kind="stable")
    return [order[rank :: count()] for rank in range(count())]


def mine(rows_by_rank: list[np.ndarray]) -> np.ndarray:
    """This process's share."""
    return rows_by_rank[distributed.get_rank()]


def gather(vectors: Tensor, rows_by_rank: list[np.ndarray]) -> Tensor:
    """The vectors of all rows in their order, from each process's own, with gradients to these.

    Processes average their gradients in the end, while the gradient of a step is the sum over its texts; so that it
    comes out right, what flows back is multiplied by the number of processes.
    """
    return _Gather.apply(vectors, rows_by_rank)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, vectors: Tensor, rows_by_rank: list[np.ndarray]) -> Tensor:
        ctx.rows_by_rank = rows_by_rank
        padded = vectors.new_zeros(len(rows_by_rank[0]), vectors.shape[1])  # the first share is the largest
        padded[: len(vectors)] = vectors
        parts = [torch.empty_like(padded) for _ in rows_by_rank]
        distributed.all_gather(parts, padded)
        whole = vectors.new_empty(sum(map(len, rows_by_rank)), vectors.shape[1])
        for rows, part in zip(rows_by_rank, parts, strict=True):
            whole[torch.from_numpy(rows)] = part[: len(rows)]
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        own = torch.from_numpy(mine(ctx.rows_by_rank))
        return gradients[0][own] * len(ctx.rows_by_rank), None
