"""retrieval-distill: any cross-encoder into a small, fast retriever on your own corpus, measured.

Nouns: ``Dataset``, ``Texts``, ``Run``, ``TrainingSet``, ``Teacher``, ``Gate``, ``ScoreStore``, ``Student``,
``Embeddings``, ``Index``, ``Searcher``, ``FeedbackLog``, ``Report``, ``Tuning``, ``Recipe``.
Verbs: ``run``, ``demo``, ``tune``, ``load_dataset``, ``convert``, ``prepare``, ``generate``, ``retrieve``, ``mine``,
``gate``, ``score``, ``rerank``, ``filter_negatives``, ``fit_teacher``, ``compress``, ``distill``, ``push``, ``embed``,
``export``, ``export_model``, ``index``, ``search``, ``evaluate``, ``benchmark``, ``report``, ``feedback_summary``,
``feedback_to_dataset``; each but ``load_dataset`` is also a command (``export_model`` is ``export --to``).
``show_progress`` shows what they are doing.

Names are imported when first used, so importing the package is cheap and loads no torch. A verb and a package may share
a name: the package, once imported, is called as the verb.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

WHERE = {
    "Dataset": "data.dataset",
    "Embeddings": "embedding.embeddings",
    "FeedbackLog": "feedback.log",
    "Gate": "teacher.gate",
    "Index": "index.index",
    "Recipe": "config",
    "Report": "reporting.results",
    "Run": "data.run",
    "ScoreStore": "scores.store",
    "Searcher": "search.searcher",
    "Student": "student.student",
    "Teacher": "scores.teacher_contract",
    "Texts": "data.dataset",
    "TrainingSet": "data.training_set",
    "Tuning": "tuning.results",
    "UserError": "errors",
    "benchmark": "api.measures",
    "compress": "api.students",
    "convert": "api.data",
    "demo": "pipeline",
    "distill": "api.students",
    "embed": "api.vectors",
    "evaluate": "api.measures",
    "export": "api.vectors",
    "export_model": "api.students",
    "feedback_summary": "api.feedback",
    "feedback_to_dataset": "api.feedback",
    "filter_negatives": "api.candidates",
    "fit_teacher": "api.teachers",
    "gate": "api.teachers",
    "generate": "api.data",
    "index": "api.vectors",
    "load_dataset": "api.data",
    "load_recipe": "config",
    "load_teacher": "api.teachers",
    "mine": "api.candidates",
    "prepare": "api.data",
    "push": "api.students",
    "report": "reporting.publish",
    "rerank": "api.teachers",
    "retrieve": "api.candidates",
    "run": "pipeline",
    "score": "api.teachers",
    "search": "api.vectors",
    "show_progress": "runtime.progress",
    "tune": "tuning",
}

__all__ = [
    "Dataset",
    "Embeddings",
    "FeedbackLog",
    "Gate",
    "Index",
    "Recipe",
    "Report",
    "Run",
    "ScoreStore",
    "Searcher",
    "Student",
    "Teacher",
    "Texts",
    "TrainingSet",
    "Tuning",
    "UserError",
    "benchmark",
    "compress",
    "convert",
    "demo",
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
    "load_recipe",
    "load_teacher",
    "mine",
    "prepare",
    "push",
    "report",
    "rerank",
    "retrieve",
    "run",
    "score",
    "search",
    "show_progress",
    "tune",
]

if TYPE_CHECKING:
    __version__: str
    from retrieval_distill.api import (
        benchmark,
        compress,
        convert,
        distill,
        embed,
        evaluate,
        export,
        export_model,
        feedback_summary,
        feedback_to_dataset,
        filter_negatives,
        fit_teacher,
        gate,
        generate,
        index,
        load_dataset,
        load_teacher,
        mine,
        prepare,
        rerank,
        retrieve,
        score,
        search,
    )
    from retrieval_distill.config import Recipe, load_recipe
    from retrieval_distill.data.dataset import Dataset, Texts
    from retrieval_distill.data.run import Run
    from retrieval_distill.data.training_set import TrainingSet
    from retrieval_distill.embedding.embeddings import Embeddings
    from retrieval_distill.errors import UserError
    from retrieval_distill.feedback.log import FeedbackLog
    from retrieval_distill.index.index import Index
    from retrieval_distill.pipeline import demo, run
    from retrieval_distill.reporting.publish import report
    from retrieval_distill.reporting.results import Report
    from retrieval_distill.runtime.progress import show_progress
    from retrieval_distill.scores.store import ScoreStore
    from retrieval_distill.scores.teacher_contract import Teacher
    from retrieval_distill.search.searcher import Searcher
    from retrieval_distill.student.student import Student
    from retrieval_distill.teacher.gate import Gate
    from retrieval_distill.tuning import tune
    from retrieval_distill.tuning.results import Tuning


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("retrieval-distill")
    if name not in WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *WHERE]


class _Package(ModuleType):
    """This package. Importing ``retrieval_distill.generate`` sets its attribute ``generate`` to that package, which
    then has to do for the verb too, whatever was imported first.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in WHERE and type(value) is ModuleType:
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
