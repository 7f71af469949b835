"""retrieval-distill: any cross-encoder into a small, fast retriever on your own corpus, measured.

Nouns: ``Dataset``, ``Run``, ``ScoreStore``, ``Index``, ``Embeddings``, ``Recipe``.
Verbs: ``run``, ``demo``, ``convert``, ``prepare``, ``generate``, ``retrieve``, ``mine``, ``score``, ``rerank``,
``filter_negatives``, ``compress``, ``distill``, ``embed``, ``export``, ``index``, ``search``, ``evaluate``,
``benchmark``, ``report``, ``fit_teacher``; each is also a command.

Names are imported when first used, so importing the package is cheap and loads no torch. A verb and a package may share
a name: the package, once imported, is called as the verb.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

_WHERE = {
    "Dataset": "data.dataset",
    "Embeddings": "embedding.embed",
    "Index": "index.index",
    "Recipe": "config",
    "Run": "data.run",
    "ScoreStore": "scores.store",
    "UserError": "errors",
    "benchmark": "api.measures",
    "compress": "api.students",
    "convert": "api.data",
    "demo": "pipeline",
    "distill": "api.students",
    "embed": "embedding.embed",
    "evaluate": "api.measures",
    "export": "embedding.export",
    "filter_negatives": "api.candidates",
    "fit_teacher": "api.teachers",
    "generate": "api.data",
    "index": "api.vectors",
    "load_dataset": "data.load",
    "load_recipe": "config",
    "load_teacher": "api.teachers",
    "mine": "api.candidates",
    "prepare": "api.data",
    "report": "reporting.publish",
    "rerank": "api.teachers",
    "retrieve": "api.candidates",
    "run": "pipeline",
    "score": "api.teachers",
    "search": "api.vectors",
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


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_WHERE[name]}")
    return getattr(module, "load" if name == "load_dataset" else name)


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]


class _Package(ModuleType):
    """This package. Importing ``retrieval_distill.generate`` sets its attribute ``generate`` to that package, which
    then has to do for the verb too, whatever was imported first.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _WHERE and type(value) is ModuleType:
            value.__class__ = _Verb
        super().__setattr__(name, value)


class _Verb(ModuleType):
    """A package that is called, and read about, as the verb of its name."""

    __doc__ = property(lambda self: self._verb.__doc__)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        return signature(self._verb)

    @property
    def _verb(self) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._verb(*args, **options)


sys.modules[__name__].__class__ = _Package
