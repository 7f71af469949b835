"""Recognises folders of finished benchmarks, without importing the code that measures.

Knows the names and forms of reports; must not know how anything is measured.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.runtime.files import read_json

BENCHMARK, RERANKERS = "benchmark.json", "report.json"


def is_benchmark(folder: Path) -> bool:
    """Whether a folder holds a finished benchmark of models."""
    return (folder / BENCHMARK).is_file()


def is_rerank_benchmark(folder: Path) -> bool:
    """Whether a folder holds a finished benchmark of rerankers; in a run's report ``systems`` is no list."""
    path = folder / RERANKERS
    found = read_json(path) if path.is_file() else None
    return isinstance(found, dict) and isinstance(found.get("systems"), list)
