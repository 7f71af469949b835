"""What is served: a run's systems, or an index, loaded once; a query in, hits with the scores of their parts out.

Knows searchers, texts and filters; must not know HTTP, queues or what a client may ask for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill import models
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.evaluation.rivals import HYBRIDS, TRAINED
from retrieval_distill.retrieval import hybrid
from retrieval_distill.retrieval.hybrid import FUSION_DEPTH, Fusion
from retrieval_distill.runtime import stages
from retrieval_distill.search.hits import Hit, hits
from retrieval_distill.search.lexical import lexical, with_fusion
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.search.searcher import Searcher
from retrieval_distill.serving.fields import Fields

BM25 = "bm25"

LABELS = {
    "student": "student", "hybrid-student": "student and BM25", "start": "start model",
    "hybrid-start": "start model and BM25", BM25: "BM25",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class System:
    """One way of finding documents.

    Args:
        name: As reports name it: ``student``, ``hybrid-student``, ``start``, ``hybrid-start`` or ``bm25``.
        searcher: Finds the documents.
        model: Its bi-encoder; ``None``: it has none.
    """

    name: str
    searcher: Searcher
    model: str | None

    @property
    def fused(self) -> bool:
        """Whether BM25 is fused with a bi-encoder."""
        return self.model is not None and self.searcher.lexical is not None

    def described(self) -> dict[str, Any]:
        """For people and clients."""
        return {"name": self.name, "label": LABELS[self.name], "trained": self.name in TRAINED, "hybrid": self.fused}


@dataclass(frozen=True)
class Found:
    """One query's hits, and the same documents in each part's own ranking: document id -> (score, rank)."""

    hits: list[Hit]
    parts: dict[str, dict[str, tuple[float, int]]]
    milliseconds: dict[str, float]


@dataclass(frozen=True, eq=False)
class Engine:
    """Everything that answers a request, of one state of the folders; a newer state is a new engine."""

    systems: dict[str, System]
    default: str
    dataset: Dataset
    teacher: Any = None

    @classmethod
    def open(cls, place: SearchLocation, dtype: str = "float32", teacher: Any = None) -> Engine:
        """The systems of a location.

        Raises:
            UserError: As :meth:`Searcher.open`.
        """
        dense = Searcher.open(place.index, place.model, place.dataset, dtype)
        served = with_fusion(dense, place, None)
        words = lexical(place)
        fused = served if served.lexical is not None else replace(dense, lexical=words, fusion=_weights(place))
        systems = {
            "student": System("student", dense, place.model),
            "hybrid-student": System("hybrid-student", fused, place.model),
            BM25: System(BM25, replace(dense, lexical=words, fusion=Fusion("rank", 0.0)), None),
        }
        default = "hybrid-student" if served.lexical is not None else "student"
        return cls(systems, default, place.dataset, teacher)

    @cached_property
    def fields(self) -> Fields:
        """The further columns of documents, by which they can be filtered."""
        return Fields.of(self.dataset)

    def system(self, name: str | None) -> System:
        """A system by its name; ``None``: the default.

        Raises:
            UserError: There is no such system.
        """
        if name is None:
            return self.systems[self.default]
        if name not in self.systems:
            raise UserError(f"system {name!r} is unknown{nearest(name, self.systems)}")
        return self.systems[name]

    def find(self, query: str, system: System, depth: int, allowed: np.ndarray | None = None) -> Found:
        """The best documents for a query, with the ranks and scores of the parts."""
        begun, searcher = time.perf_counter(), replace(system.searcher, allowed=allowed)
        asked = Texts.from_records([("query", "", query)])
        wide = self.dataset.in_passages(max(depth, FUSION_DEPTH))
        parts: dict[str, dict[str, tuple[float, int]]] = {}
        if system.model is not None:
            parts["dense"] = _ranked(searcher.dense(asked, wide))
        if searcher.lexical is not None:
            parts["bm25"] = _ranked(searcher.lexical.search(asked, wide, allowed))
        run = searcher.search(asked, depth) if system.model else searcher.lexical.search(asked, depth, allowed)  # type: ignore[union-attr]
        found = hits(run, self.dataset, query)
        return Found(found, parts, {"search": 1000 * (time.perf_counter() - begun)})


def _ranked(run: Run) -> dict[str, tuple[float, int]]:
    frame = run.frame
    return {
        id_: (score, rank) for rank, (id_, score) in enumerate(zip(frame["doc_id"], frame["score"], strict=True), 1)
    }


def _weights(place: SearchLocation) -> Fusion:
    """The weights tuned for the run; else reciprocal ranks, both sides counting alike."""
    return hybrid.load(place.search_folder / hybrid.FILE) or Fusion()
