"""The ways of finding documents that are served: a run's student, its start model, BM25, and each model fused with it.

Knows searchers and the models that embed queries; must not know requests, filters or teachers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from retrieval_distill.config import NO_LIMIT, parse_recipe
from retrieval_distill.errors import UserError
from retrieval_distill.evaluation.rivals import HYBRIDS, TRAINED
from retrieval_distill.retrieval.hybrid import Fusion, FusionTuning
from retrieval_distill.runtime import stages
from retrieval_distill.search.lexical import lexical
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.search.searcher import Searcher
from retrieval_distill.student import loading
from retrieval_distill.student.routes import Kind

STUDENT, START, BM25 = "student", "start", "bm25"

LABELS = {
    STUDENT: "student", "hybrid-student": "student and BM25", START: "start model",
    "hybrid-start": "start model and BM25", BM25: "BM25",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Encoder:
    """A bi-encoder that is served under a name.

    Args:
        name: ``student`` or ``start``.
        model: Its folder, hub id or packaged name.
        loaded: What :func:`retrieval_distill.student.loading.load` gave.
        dimensions: Dimensions to which its vectors may be cut, since it was trained with such views; ascending.
    """

    name: str
    model: str
    loaded: Any
    dimensions: tuple[int, ...] = ()

    def queries(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The vector of each query, float32 [dimensions]."""
        return list(loading.encode(self.loaded, texts, "query"))

    def embedded(self, kind: Kind, texts: Sequence[str]) -> list[tuple[np.ndarray, int]]:
        """The vector of each text, float32 [dimensions], and its number of tokens; the bits that ``embed`` writes."""
        limit = loading.limit(self.loaded, kind) or NO_LIMIT
        counts = loading.tokens_beyond(self.loaded, texts, kind, limit).lengths.tolist()
        return list(zip(loading.encode(self.loaded, texts, kind), counts, strict=True))

    @property
    def limit(self) -> int | None:
        """Tokens that are kept of a document; ``None``: all."""
        return loading.limit(self.loaded, "document")

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """The number of tokens of each text, however long."""
        return loading.tokens_beyond(self.loaded, texts, "document", NO_LIMIT).lengths.tolist()

    @cached_property
    def of_documents(self) -> Callable[[Sequence[str]], list[tuple[np.ndarray, int]]]:
        """:meth:`embedded` of documents; always the same object, so that clients share batches."""
        return partial(self.embedded, "document")

    @cached_property
    def of_queries(self) -> Callable[[Sequence[str]], list[tuple[np.ndarray, int]]]:
        """The same of queries."""
        return partial(self.embedded, "query")


@dataclass(frozen=True, eq=False)
class System:
    """One way of finding documents.

    Args:
        name: As reports name it: ``student``, ``hybrid-student``, ``start``, ``hybrid-start`` or ``bm25``.
        searcher: Finds the documents.
        encoder: Embeds its queries; ``None``: BM25 alone.
    """

    name: str
    searcher: Searcher
    encoder: Encoder | None

    def described(self) -> dict[str, Any]:
        """For people and clients."""
        return {
            "name": self.name,
            "label": LABELS[self.name],
            "trained": self.name in TRAINED,
            "hybrid": self.encoder is not None and self.searcher.lexical is not None,
        }


def systems_of(place: SearchLocation, dense: Searcher, *, dtype: str, start: bool) -> dict[str, System]:
    """The systems of a location, by name; their models are loaded.

    Args:
        place: A run, or an index with its model and dataset.
        dense: Finds its documents by the index.
        dtype: What models compute in.
        start: Whether to serve a run's start model beside its student.

    Raises:
        UserError: There is no start model.
    """
    words = lexical(place)
    student = Encoder(STUDENT, place.model, dense.encoder.loaded, _views(place))
    fused = replace(dense, lexical=words, fusion=_weights(place.search_folder))
    systems = {
        STUDENT: System(STUDENT, dense, student),
        "hybrid-student": System("hybrid-student", fused, student),
        BM25: System(BM25, replace(dense, encoder=None, lexical=words), None),
    }
    return systems | _start_systems(place, fused, dtype) if start else systems


def _weights(folder: Path, file: str | None = None) -> Fusion:
    """The weights of a fusion, as tuned; else those without tuning."""
    tuned = FusionTuning.read(folder, file)
    return tuned.chosen if tuned else Fusion()


def _views(place: SearchLocation) -> tuple[int, ...]:
    """The dimensions of the views that a run's student was trained with."""
    folders = (Path(place.model).parent, place.search_folder.parent)
    recipe = next((folder / "recipe.json" for folder in folders if (folder / "recipe.json").is_file()), None)
    if recipe is None:
        return ()
    views = parse_recipe(stages.read_json(recipe), str(recipe)).views
    return tuple(sorted(int(str(view)) for view in views if str(view).isdecimal()))


def _start_systems(place: SearchLocation, fused: Searcher, dtype: str) -> dict[str, System]:
    """A run's start model, and its fusion with BM25."""
    run = place.search_folder.parent
    if not (run / "index-start").is_dir() or not (run / "recipe.json").is_file():
        raise UserError(f"{run}: no start model's index there; leave --start out")
    model = parse_recipe(stages.read_json(run / "recipe.json"), str(run / "recipe.json")).student.model
    dense = Searcher.open(run / "index-start", model, place.dataset, dtype)
    start = Encoder(START, model, dense.encoder.loaded)
    (name,) = (name for name, of in HYBRIDS.items() if of == START)
    both = replace(dense, lexical=fused.lexical, fusion=_weights(run / "fusion", f"{name}.json"))
    return {START: System(START, dense, start), name: System(name, both, start)}
