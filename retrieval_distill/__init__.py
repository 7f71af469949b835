"""retrieval-distill: any cross-encoder into a small, fast retriever on your own corpus, measured.

Nouns: ``Dataset``, ``Run``, ``ScoreStore``, ``Index``, ``Embeddings``, ``Recipe``.
Verbs: ``run``, ``demo``, ``convert``, ``prepare``, ``generate``, ``retrieve``, ``mine``, ``score``, ``rerank``,
``filter_negatives``, ``compress``, ``distill``, ``embed``, ``export``, ``index``, ``search``, ``evaluate``,
``benchmark``, ``report``, ``fit_teacher``; each is also a command.

Names are imported when first used, so importing the package is cheap and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Dataset": "data.dataset",
    "Embeddings": "indexing.embed",
    "Index": "indexing.opened",
    "Recipe": "config",
    "Run": "retrieval.run",
    "ScoreStore": "teacher.store",
    "UserError": "errors",
    "benchmark": "verbs",
    "compress": "verbs",
    "convert": "verbs",
    "demo": "pipeline",
    "distill": "verbs",
    "embed": "verbs",
    "evaluate": "verbs",
    "export": "verbs",
    "filter_negatives": "verbs",
    "fit_teacher": "verbs",
    "generate": "verbs",
    "index": "verbs",
    "load_dataset": "data.load",
    "load_recipe": "config",
    "load_teacher": "verbs",
    "mine": "verbs",
    "prepare": "verbs",
    "report": "reporting.publish",
    "rerank": "verbs",
    "retrieve": "verbs",
    "run": "pipeline",
    "score": "verbs",
    "search": "verbs",
}

__all__ = [
    "Dataset",
    "Embeddings",
    "Index",
    "Recipe",
    "Run",
    "ScoreStore",
    "UserError",
    "benchmark",
    "compress",
    "convert",
    "demo",
    "distill",
    "embed",
    "evaluate",
    "export",
    "filter_negatives",
    "fit_teacher",
    "generate",
    "index",
    "load_dataset",
    "load_recipe",
    "load_teacher",
    "mine",
    "prepare",
    "report",
    "rerank",
    "retrieve",
    "run",
    "score",
    "search",
]

if TYPE_CHECKING:
    from retrieval_distill.config import Recipe, load_recipe
    from retrieval_distill.data.dataset import Dataset
    from retrieval_distill.data.load import load as load_dataset
    from retrieval_distill.errors import UserError
    from retrieval_distill.indexing.embed import Embeddings
    from retrieval_distill.indexing.opened import Index
    from retrieval_distill.pipeline import demo, run
    from retrieval_distill.reporting.publish import report
    from retrieval_distill.retrieval.run import Run
    from retrieval_distill.teacher.store import ScoreStore
    from retrieval_distill.verbs import (
        benchmark,
        compress,
        convert,
        distill,
        embed,
        evaluate,
        export,
        filter_negatives,
        fit_teacher,
        generate,
        index,
        load_teacher,
        mine,
        prepare,
        rerank,
        retrieve,
        score,
        search,
    )  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_WHERE[name]}")
    return getattr(module, "load" if name == "load_dataset" else name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
