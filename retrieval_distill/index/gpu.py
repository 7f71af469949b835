"""GPU FAISS, where it is installed and finds a GPU; without it everything stays as it is.

Knows FAISS and GPUs; must not know files, models or ids.
"""

from __future__ import annotations

from typing import Any

import faiss


def there_is_one() -> bool:
    """Whether FAISS can use a GPU here; the CPU's FAISS never can."""
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def onto(index: Any) -> Any:
    """A copy of the index on the first GPU, or the index itself."""
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index) if there_is_one() else index


def back(index: Any) -> Any:
    """The index as the CPU holds it, which is how it is written."""
    return faiss.index_gpu_to_cpu(index) if there_is_one() else index
