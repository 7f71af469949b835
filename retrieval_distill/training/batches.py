"""Collates draws into the tensors of one step: each distinct text once, candidates by their position among these.

Knows groups and the student's input rows; must not know objectives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset

from retrieval_distill.data.dataset import Qrels
from retrieval_distill.student.encoder import Row
from retrieval_distill.training.groups import Draw, Group
from retrieval_distill.training.lexical_term import Pairs
from retrieval_distill.training.teacher_vectors import TeacherVectors


class Rows(Protocol):
    """Input rows of the student by text id."""

    def __getitem__(self, id_: str) -> Row: ...


class DrawDataset(TorchDataset):
    """The schedule as a map-style dataset: item ``i`` is draw ``i``."""

    def __init__(self, draws: Sequence[Any]) -> None:
        self.draws = draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, index: int) -> Any:
        return self.draws[index]


@dataclass(frozen=True, eq=False)
class Collator:
    """Turns the draws of a step into its batch.

    The batch has ``query_ids`` [Q], token rows (``queries`` [Q], ``documents`` [S distinct]), ``document_ids`` [S],
    ``remembered`` (ids of the documents in memory), ``positions`` int64 [Q, C] into the documents, ``teacher`` and
    ``labels`` float32 [Q, C], ``mask`` bool [Q, C]; over all D documents, embedded or in memory, ``in_batch_labels``
    float32 [Q, D]; with an embedding teacher ``teacher_queries`` [Q, E] and ``teacher_documents`` [D, E]; with a
    lexical term ``lexical`` float32 [Q, D].
    """

    groups: Sequence[Group]
    queries: Rows
    documents: Rows
    qrels: Qrels
    teacher_vectors: TeacherVectors | None = None
    lexical: Pairs | None = None

    def __call__(self, draws: Sequence[Draw], remembered: Sequence[str] = ()) -> dict[str, Any]:
        """Assemble one step; its own documents are removed from ``remembered``."""
        lists = [(self.groups[draw.group], draw.candidates) for draw in draws]
        own = list(dict.fromkeys(g.doc_ids[c] for g, chosen in lists for c in chosen))
        distinct = {doc: i for i, doc in enumerate(dict.fromkeys([*own, *remembered]))}
        shape = (len(lists), max(len(chosen) for _, chosen in lists))
        positions, mask = np.zeros(shape, np.int64), np.zeros(shape, bool)
        teacher, labels = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        in_batch = np.zeros((len(lists), len(distinct)), np.float32)
        for row, (group, chosen) in enumerate(lists):
            count = len(chosen)
            positions[row, :count] = [distinct[group.doc_ids[c]] for c in chosen]
            teacher[row, :count] = [group.scores[c] for c in chosen]
            labels[row, :count] = [group.grades[c] for c in chosen]
            mask[row, :count] = True
            for doc, grade in self.qrels[group.query_id].items():
                if doc in distinct:
                    in_batch[row, distinct[doc]] = max(grade, 0)
        query_ids = [group.query_id for group, _ in lists]
        tensors = {
            "positions": positions,
            "teacher": teacher,
            "labels": labels,
            "mask": mask,
            "in_batch_labels": in_batch,
        }
        if self.teacher_vectors is not None:
            tensors["teacher_queries"] = self.teacher_vectors.take("query", query_ids)
            tensors["teacher_documents"] = self.teacher_vectors.take("document", list(distinct))
        if self.lexical is not None:
            tensors["lexical"] = self.lexical(query_ids, list(distinct))
        return {
            "query_ids": query_ids,
            "queries": [self.queries[id_] for id_ in query_ids],
            "documents": [self.documents[doc] for doc in own],
            "document_ids": own,
            "remembered": list(distinct)[len(own) :],
            **{name: torch.from_numpy(array) for name, array in tensors.items()},
        }
