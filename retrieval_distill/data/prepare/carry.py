"""Judgements, carried from documents to what became of them. Knows ids and grades; must not know why a text changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Qrels, Texts

Carry = Callable[[str, str], Sequence[str]]
"""(query id, document id) -> ids that get the judgement; none drops it."""


def carried(qrels: Qrels, carry: Carry) -> Qrels:
    """The judgements under their new ids; of several that fall together the highest grade stays."""
    result: Qrels = {}
    for query_id, grades in qrels.items():
        for doc_id, grade in grades.items():
            for new in carry(query_id, doc_id):
                judged = result.setdefault(query_id, {})
                judged[new] = max(grade, judged.get(new, grade))
    return result


def to_kept(copies: Mapping[str, str], documents: Texts, queries: Texts, dropped: Ledger) -> Carry:
    """From copies to the kept document; a judgement of a dropped query or document goes, and is counted."""

    def carry(query_id: str, doc_id: str) -> Sequence[str]:
        kept = copies.get(doc_id, doc_id)
        if query_id not in queries:
            dropped.add("judgement of a dropped query", f"{query_id} {doc_id}")
        elif kept not in documents:
            dropped.add("judgement of a dropped document", f"{query_id} {doc_id}")
        else:
            return [kept]
        return []

    return carry
