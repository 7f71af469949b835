"""Folders of finished benchmarks, told from others without importing what measures.

Knows the names and shapes of reports; must not know how anything is measured.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.runtime.files import read_json

BENCHMARK, RERANKERS = "benchmark.json", "report.json"


def is_benchmark(folder: Path) -> bool:
    """Whether a benchmark of models has finished in a folder."""
    return (folder / BENCHMARK).is_file()


def is_rerank_benchmark(folder: Path) -> bool:
    """Whether a benchmark of rerankers has finished in a folder; a run's report of that name lists no systems."""
    path = folder / RERANKERS
    found = read_json(path) if path.is_file() else None
    return isinstance(found, dict) and isinstance(found.get("systems"), list)
