"""Converts a dataset of documents to one of passages, with a mapping back and transferred judgements.

Knows how ids and judgements change; must not know where a document is split.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from retrieval_distill.config import PrepareConfig
from retrieval_distill.data import columns
from retrieval_distill.data.columns import Record
from retrieval_distill.data.dataset import Dataset, Texts
from retrieval_distill.data.prepare.judgement_transfer import Carry, transfer
from retrieval_distill.data.prepare.segment import Segmenter
from retrieval_distill.data.prepare.words import words
from retrieval_distill.errors import UserError


def split_into_passages(dataset: Dataset, config: PrepareConfig, segmenter: Segmenter, path: Path) -> Dataset:
    """Split the long documents of a dataset; ``parents`` names the document of every passage.

    Args:
        dataset: A dataset of documents.
        config: Determines which passages of a judged document get its grade.
        segmenter: Splits the documents.
        path: File for the passages, memory-mapped.

    Raises:
        UserError: A passage's id is the id of another document.
    """
    parents: list[str] = []

    def records() -> Iterator[Record]:
        for parent, passage in segmenter.passages(dataset.documents.records()):
            parents.append(parent)
            yield passage

    columns.write(columns.batches(records()), path)
    passages = Texts(columns.open_mapped(path))
    _refuse_repeats(passages, parents)
    judged_ids = {doc_id for judged in dataset.qrels.values() for grades in judged.values() for doc_id in grades}
    of: dict[str, list[str]] = defaultdict(list)
    for passage_id, parent in zip(passages, parents, strict=True):
        if parent in judged_ids:
            of[parent].append(passage_id)
    carry = _to_all(of) if config.judged_passages == "all" else to_best(of, passages, dataset.queries)
    qrels = {split: transfer(judged, carry) for split, judged in dataset.qrels.items()}
    mapping = pa.chunked_array([pa.array(parents, pa.large_string())])
    return dataset.replace(documents=passages, qrels=qrels, parents=mapping)


def _to_all(of: dict[str, list[str]]) -> Carry:
    return lambda query_id, doc_id: of[doc_id]


def to_best(of: dict[str, list[str]], passages: Texts, queries: Texts) -> Carry:
    """Transfer to the first passage with most of the query's distinct words.

    Args:
        of: The passages of each judged document.
        passages: Their texts.
        queries: Texts of the judged queries.
    """

    def carry(query_id: str, doc_id: str) -> Sequence[str]:
        wanted, found = set(words(queries[query_id])), of[doc_id]
        shared = [len(wanted.intersection(words(text))) for text in passages.take(found)]
        return [found[shared.index(max(shared))]]

    return carry


def _refuse_repeats(passages: Texts, parents: list[str]) -> None:
    for row, first in passages.rows.repeats():
        raise UserError(
            f"ids collide once documents are split: {passages.table['id'][row].as_py()!r} is a passage of one of "
            f"{parents[first]!r} and {parents[row]!r} and the id of the other; rename the document"
        )
