"""Which layer of the teacher each layer of the student learns from.

Knows layer numbers and distances; must not know hidden states.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.optimize import linprog

from retrieval_distill.student import layers


def skip(count: int, keep: int) -> tuple[int, ...]:
    """The last layer of each of ``keep`` equal parts: 6 to 3 gives 1, 3, 5.

    Source: Jiao et al., "TinyBERT", 2019, arXiv:1909.10351, section 4.1 (their g(m) = 3m, layers counted from 1).
    """
    return tuple(round((place + 1) * count / keep) - 1 for place in range(keep))


MAPPINGS: dict[str, Callable[[int, int], tuple[int, ...]]] = {
    "first": layers.first,
    "last": layers.last,
    "uniform": layers.spaced,
    "skip": skip,
}
"""Name -> rule: (teacher layers, student layers) -> the teacher layer for each student layer."""


def earth_mover(distances: np.ndarray) -> np.ndarray:
    """The optimal transport between student layers and teacher layers, both with uniform weights.

    Args:
        distances: [student layers, teacher layers].

    Returns:
        Shares of the same shape: rows sum to 1 / student layers, columns to 1 / teacher layers, and
        ``(shares * distances).sum()`` is minimal: the earth mover's distance. Its gradient is that of the distances
        with these shares fixed.

    Source: Li et al., "BERT-EMD: Many-to-Many Layer Mapping for BERT Compression with Earth Mover's Distance", 2020,
    arXiv:2010.06133, section 3.2; layers have equal weights here.
    """
    students, teachers = distances.shape
    rows = np.kron(np.eye(students), np.ones(teachers))
    # the last column's sum follows from the others: with it, rounding could leave no solution
    columns = np.kron(np.ones(students), np.eye(teachers))[:-1]
    sums = np.concatenate([np.full(students, 1 / students), np.full(teachers - 1, 1 / teachers)])
    solved = linprog(distances.ravel(), A_eq=np.concatenate([rows, columns]), b_eq=sums, method="highs")
    return solved.x.reshape(distances.shape)
