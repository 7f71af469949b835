"""The verbs: what the command line, a recipe and Python code do, each in one function.

Each takes the nouns (Dataset, Run, folders of models and vectors) and gives one back; a stage of the pipeline adds
only where results are kept. Each is imported when first used. Knows how rooms fit together; must not know recipes or
option parsing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import retrieval_distill

if TYPE_CHECKING:
    from retrieval_distill.api.candidates import filter_negatives, mine, retrieve
    from retrieval_distill.api.data import convert, generate, prepare
    from retrieval_distill.api.measures import benchmark, evaluate
    from retrieval_distill.api.students import compress, distill
    from retrieval_distill.api.teachers import fit_teacher, load_teacher, rerank, score
    from retrieval_distill.api.vectors import index, search
    from retrieval_distill.embedding.embed import embed
    from retrieval_distill.embedding.export import export

__all__ = [
    "benchmark", "compress", "convert", "distill", "embed", "evaluate", "export", "filter_negatives", "fit_teacher",
    "generate", "index", "load_teacher", "mine", "prepare", "rerank", "retrieve", "score", "search",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return retrieval_distill.__getattr__(name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
