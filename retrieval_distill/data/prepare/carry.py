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


def to_kept(
    judgements: Mapping[str, Qrels], copies: Mapping[str, str], documents: Texts, queries: Texts, dropped: Ledger
) -> Carry:
    """From copies to the kept document; a judgement of a dropped query or document goes, and is counted.

    Args:
        judgements: All that will be carried, by split.
        copies: Copy -> the document that is kept.
        documents: Those that are left.
        queries: Those that are left.
        dropped: Where a judgement that goes is counted.
    """
    judged = [(query, grades) for qrels in judgements.values() for query, grades in qrels.items()]
    asked = queries.known(query for query, _ in judged)
    there = documents.known(copies.get(doc, doc) for _, grades in judged for doc in grades)

    def carry(query_id: str, doc_id: str) -> Sequence[str]:
        kept = copies.get(doc_id, doc_id)
        if query_id not in asked:
            dropped.add("judgement of a dropped query", f"{query_id} {doc_id}")
        elif kept not in there:
            dropped.add("judgement of a dropped document", f"{query_id} {doc_id}")
        else:
            return [kept]
        return []

    return carry
