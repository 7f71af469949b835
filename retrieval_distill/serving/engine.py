"""What is served: a run's systems, or an index, loaded once; queries with their vectors in, hits out.

An engine never changes: a newer student or index is another engine. Knows searchers, texts, teachers and filters; must
not know HTTP, queues or what a client may ask for.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError, nearest
from retrieval_distill.scores.teacher_contract import Pairs, Teacher
from retrieval_distill.search.hits import Hit, hits_of
from retrieval_distill.search.lexical import with_fusion
from retrieval_distill.search.location import SearchLocation
from retrieval_distill.search.searcher import Searcher
from retrieval_distill.serving.fields import Fields, Filter
from retrieval_distill.serving.systems import STUDENT, Encoder, System, systems_of

FILTERS_KEPT = 16
"""Filters whose documents are kept, of those lately asked."""

LIKE = 2_000
"""Characters of a document that stand for it as a query of BM25."""


@dataclass(frozen=True, eq=False)
class Question:
    """A query for one searcher, with its vector, float32 [dimensions]; ``None``: the searcher needs none."""

    text: str
    searcher: Searcher
    depth: int
    vector: np.ndarray | None = None


Place = tuple[float, int]
"""A document's score and rank in one part of a search."""


@dataclass(frozen=True)
class Found:
    """Hits, best first, and the place of their passages in each part: ``dense``, ``bm25``, ``teacher``."""

    hits: list[Hit]
    parts: dict[str, dict[str, Place]]


@dataclass(frozen=True, eq=False)
class Engine:
    """Everything that answers requests, as the folders were when it was opened.

    Args:
        systems: By name.
        default: The system that is asked if none is named.
        dataset: The documents.
        fields: Their further columns.
        teacher: Reranks; ``None``: no reranking.
        versions: Fingerprints of what is served.
    """

    systems: dict[str, System]
    default: str
    dataset: Dataset
    fields: Fields
    teacher: Teacher | None
    versions: dict[str, Any]
    _filtered: OrderedDict[tuple[str, str], Searcher] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def open(
        cls, place: SearchLocation, *, dtype: str = "float32", teacher: Teacher | None = None, start: bool = False
    ) -> Engine:
        """The systems of a location.

        Args:
            place: A run, or an index with its model and dataset.
            dtype: What models compute in.
            teacher: Reranks; ``None``: no reranking.
            start: Whether to serve a run's start model beside its student.

        Raises:
            UserError: As :meth:`Searcher.open`; or there is no start model.
        """
        dense = Searcher.open(place.index, place.model, place.dataset, dtype)
        chosen = with_fusion(dense, place, None)  # tunes the fusion's weights where that was not done yet
        systems = systems_of(place, dense, dtype=dtype, start=start)
        made = dense.index.manifest
        versions = {
            "model": {"name": STUDENT, "fingerprint": made["inputs"]["model"], "dtype": str(dense.encoder.dtype)},
            "index": {
                "fingerprint": made["fingerprint"],
                "kind": made["counts"]["kind"],
                "documents": made["counts"]["documents"],
            },
            "corpus": {"name": place.dataset.name, "fingerprint": place.dataset.documents.fingerprint},
            "teacher": None if teacher is None else {"fingerprint": teacher.fingerprint},
        }
        default = "hybrid-student" if chosen.lexical is not None else STUDENT
        return cls(systems, default, place.dataset, Fields.of(place.dataset), teacher, versions)

    @property
    def encoders(self) -> dict[str, Encoder]:
        """The models that embed, by name."""
        return {system.encoder.name: system.encoder for system in self.systems.values() if system.encoder is not None}

    @property
    def documents(self) -> int:
        """Number of documents that can be found."""
        return self.systems[self.default].searcher.size

    def count(self, allowed: np.ndarray) -> int:
        """Number of documents of a filter, bool [documents or passages]; one with passages counts once."""
        parents = self.dataset.parents
        return int(allowed.sum() if parents is None else pc.count_distinct(parents.filter(pa.array(allowed))).as_py())

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

    def searcher(self, system: System, where: Filter | None) -> Searcher:
        """A system's searcher, for the documents that a filter lets through; ``None``: all.

        Raises:
            UserError: The filter does not fit the documents' fields.
        """
        if where is None:
            return system.searcher
        key = (system.name, json.dumps(where, sort_keys=True))
        with self._lock:
            if key in self._filtered:
                self._filtered.move_to_end(key)
                return self._filtered[key]
        found = replace(system.searcher, allowed=self.fields.allowed(where))
        with self._lock:
            self._filtered[key] = found
            while len(self._filtered) > FILTERS_KEPT:
                self._filtered.popitem(last=False)
        return found

    def find(self, questions: Sequence[Question]) -> list[Found]:
        """The hits of many questions; those for one searcher are answered together."""
        together: dict[tuple[int, int], list[int]] = {}
        for number, question in enumerate(questions):
            together.setdefault((id(question.searcher), question.depth), []).append(number)
        found: dict[int, Found] = {}
        for numbers in together.values():
            found |= zip(numbers, self._find([questions[number] for number in numbers]), strict=True)
        return [found[number] for number in range(len(questions))]

    def _find(self, questions: Sequence[Question]) -> list[Found]:
        searcher, depth = questions[0].searcher, questions[0].depth
        if searcher.allowed is not None and not searcher.allowed.any():
            return [Found([], {})] * len(questions)
        asked = Texts.from_records((str(number), "", question.text) for number, question in enumerate(questions))
        vectors = None if questions[0].vector is None else np.stack([cast(Any, q.vector) for q in questions])
        answer = searcher.answer(asked, depth, vectors)
        best = {query: (ids, scores) for query, ids, scores in answer.run}
        parts = {"dense": answer.dense, "bm25": answer.lexical}
        places = {part: _places(run) for part, run in parts.items() if run is not None}
        found = []
        for number, question in enumerate(questions):
            ids, scores = best.get(str(number), ([], np.zeros(0)))
            own = {part: ranked.get(str(number), {}) for part, ranked in places.items()}
            found.append(Found(hits_of(ids, scores.tolist(), self.dataset, question.text), own))
        return found

    def like(self, id_: str) -> str:
        """The text of a document, or of the first of its passages.

        Raises:
            UserError: There is no such document.
        """
        documents = self.dataset.documents
        if id_ in documents:
            return documents[id_]
        row = -1 if self.dataset.parents is None else self.dataset.parents.index(id_).as_py()
        if row < 0:
            raise UserError(f"there is no document {id_!r}")
        return documents.at(np.array([row])).take()[0]

    def scores(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """The teacher's raw scores of pairs of a query and a text."""
        assert self.teacher is not None
        queries, documents = (list(dict.fromkeys(texts)) for texts in zip(*pairs, strict=True))
        places = [{text: number for number, text in enumerate(texts)} for texts in (queries, documents)]
        rows = np.array([[places[0][query], places[1][text]] for query, text in pairs], np.int64)
        ids = [[f"served-{number}" for number in range(len(texts))] for texts in (queries, documents)]
        given = Pairs(ids[0], queries, ids[1], documents, rows, np.ones(len(pairs), bool))
        scores = np.full(len(pairs), np.nan)
        for positions, some in self.teacher.score(given):
            scores[positions] = some
        return scores.tolist()


def _places(run: Run) -> dict[str, dict[str, Place]]:
    """Query id -> document id -> its place."""
    return {
        query: {id_: (score, rank) for rank, (id_, score) in enumerate(zip(ids, scores.tolist(), strict=True), 1)}
        for query, ids, scores in run
    }


def state(place: SearchLocation) -> tuple[Any, ...]:
    """What a location's folders hold, cheaply: another value means that something there was replaced."""
    files = [place.index / "manifest.json"]
    with suppress(OSError):  # a folder that is just being replaced
        files += sorted(path for path in Path(place.model).rglob("*") if path.is_file())
    return tuple((str(file), *_stamp(file)) for file in files)


def _stamp(file: Path) -> tuple[int, ...]:
    try:
        found = file.stat()
    except OSError:
        return ()
    return (found.st_ino, found.st_size, found.st_mtime_ns)
