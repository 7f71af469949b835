"""Data parallelism within a step: each process embeds its share of the texts, and gathers the vectors of all.

All processes draw the same global step and compute the same loss over it, so results do not depend on the number of
processes: in-batch documents, means over pairs and deduplicated texts are those of a single process. Knows rows and
vectors; must not know models or objectives.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor, distributed

from retrieval_distill.runtime.processes import count, rank

T = TypeVar("T")


def join() -> None:
    """Meet the other processes. Those that have to share a GPU do so through gloo, since NCCL refuses."""
    if count() == 1 or not torch.cuda.is_available():
        return
    if int(os.environ.get("LOCAL_WORLD_SIZE", 1)) > torch.cuda.device_count():
        os.environ["ACCELERATE_BYPASS_DEVICE_MAP"] = "true"  # or each would take the GPU of its own number
        PartialState(backend="gloo")


def broadcast_from_first(work: Callable[[], T]) -> T:
    """Call ``work`` in the first process, and return its result in all of them; the others wait."""
    return broadcast_object_list([work() if rank() == 0 else None])[0]


def split_by_length(lengths: np.ndarray) -> list[np.ndarray]:
    """The rows of each process, balanced by length."""
    order = np.argsort(-lengths, kind="stable")
    return [order[rank :: count()] for rank in range(count())]


def own_rows(rows_by_rank: list[np.ndarray]) -> np.ndarray:
    """The rows of this process."""
    return rows_by_rank[distributed.get_rank()]


def gather(vectors: Tensor, rows_by_rank: list[np.ndarray]) -> Tensor:
    """Gather the vectors of all rows, in order, from the processes; gradients flow back to the process's own vectors.

    Gradients are multiplied by the number of processes, because these average them afterwards, while the gradient of a
    step is a sum over its texts.
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
        own = torch.from_numpy(own_rows(ctx.rows_by_rank))
        return gradients[0][own] * len(ctx.rows_by_rank), None
