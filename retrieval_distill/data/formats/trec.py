"""Writes TREC judgement files (``query 0 document grade``), one per split.

Knows this layout; must not know texts, which these files do not contain. For runs see ``data.trec_run``.
"""

from __future__ import annotations

from pathlib import Path

from retrieval_distill.data.dataset import Dataset
from retrieval_distill.data.formats.reading import Export, Format
from retrieval_distill.data.formats.tables import judgement_rows
from retrieval_distill.errors import UserError


def write(dataset: Dataset, folder: Path, _: Export) -> None:
    """Write ``SPLIT.qrels`` for every split.

    Raises:
        UserError: An id contains white space, which separates the fields of these files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for split, judged in dataset.qrels.items():
        with (folder / f"{split}.qrels").open("w", encoding="utf-8", newline="\n") as out:
            for query_id, doc_id, grade in judgement_rows(judged):
                for id_ in (query_id, doc_id):
                    if len(id_.split()) != 1 or id_.strip() != id_ or "\0" in id_:
                        raise UserError(f"{out.name}: id {id_!r} contains white space, which TREC files cannot hold")
                out.write(f"{query_id} 0 {doc_id} {grade}\n")


TREC = Format("trec", lambda source: False, write=write)
