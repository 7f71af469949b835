"""Moves FAISS indexes to a GPU and back, if GPU FAISS is installed and finds one; otherwise does nothing.

Knows FAISS and GPUs; must not know files, models or ids.
"""

from __future__ import annotations

from typing import Any

import faiss


def is_available() -> bool:
    """Whether FAISS can use a GPU here; CPU FAISS never can."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def to_gpu(index: Any) -> Any:
    """A copy of the index on the first GPU, or the index itself."""
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index) if is_available() else index


def to_cpu(index: Any) -> Any:
    """The index as a CPU index, which can be written."""
    return faiss.index_gpu_to_cpu(index) if is_available() else index
