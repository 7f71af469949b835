"""retrieval-distill: any cross-encoder into a small, fast retriever on your own corpus, measured.

Nouns: ``Dataset``, ``Run``, ``ScoreStore``, ``Index``, ``Embeddings``, ``Searcher``, ``Recipe``.
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
    "Embeddings": "embedding.embed",
    "Index": "index.index",
    "Recipe": "config",
    "Run": "data.run",
    "ScoreStore": "scores.store",
    "Searcher": "search.searcher",
    "UserError": "errors",
    "benchmark": "api",
    "compress": "api",
    "convert": "api",
    "demo": "pipeline",
    "distill": "api",
    "embed": "api",
    "evaluate": "api",
    "export": "api",
    "filter_negatives": "api",
    "fit_teacher": "api",
    "generate": "api",
    "index": "api",
    "load_dataset": "data.load",
    "load_recipe": "config",
    "load_teacher": "api",
    "mine": "api",
    "prepare": "api",
    "report": "reporting.publish",
    "rerank": "api",
    "retrieve": "api",
    "run": "pipeline",
    "score": "api",
    "search": "api",
}

__all__ = [
    "Dataset",
    "Embeddings",
    "Index",
    "Recipe",
    "Run",
    "ScoreStore",
    "Searcher",
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
    from retrieval_distill.api import (  # fmt: skip
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
    )
    from retrieval_distill.config import Recipe, load_recipe
    from retrieval_distill.data.dataset import Dataset
    from retrieval_distill.data.load import load as load_dataset
    from retrieval_distill.data.run import Run
    from retrieval_distill.embedding.embed import Embeddings
    from retrieval_distill.errors import UserError
    from retrieval_distill.index.index import Index
    from retrieval_distill.pipeline import demo, run
    from retrieval_distill.reporting.publish import report
    from retrieval_distill.scores.store import ScoreStore
    from retrieval_distill.search.searcher import Searcher


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_WHERE[name]}")
    return getattr(module, "load" if name == "load_dataset" else name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
