"""The verbs: one function for each act, which recipes, the command line and people call alike.

Nouns come first (queries, documents; or the one noun that an act is about), options are keywords, and objects come
back. Knows what each act takes and gives; must not know options' spelling in a shell, or a terminal. Importing it is
cheap: each verb is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import retrieval_distill

if TYPE_CHECKING:
    from retrieval_distill.api.candidates import filter_negatives, mine, retrieve
    from retrieval_distill.api.data import convert, generate, load_dataset, prepare
    from retrieval_distill.api.feedback import feedback_summary, feedback_to_dataset
    from retrieval_distill.api.measures import benchmark, evaluate
    from retrieval_distill.api.students import compress, distill, export_model, push
    from retrieval_distill.api.teachers import fit_teacher, gate, load_teacher, rerank, score
    from retrieval_distill.api.vectors import embed, export, index, search

__all__ = [
    "benchmark",
    "compress",
    "convert",
    "distill",
    "embed",
    "evaluate",
    "export",
    "export_model",
    "feedback_summary",
    "feedback_to_dataset",
    "filter_negatives",
    "fit_teacher",
    "gate",
    "generate",
    "index",
    "load_dataset",
    "load_teacher",
    "mine",
    "prepare",
    "push",
    "rerank",
    "retrieve",
    "score",
    "search",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return retrieval_distill.__getattr__(name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
