"""Transfers judgements to new document ids. Knows ids and grades; must not know why a text changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Qrels, Texts

Carry = Callable[[str, str], Sequence[str]]
"""(query id, document id) -> ids that get the judgement; an empty list drops it."""


def transfer(qrels: Qrels, carry: Carry) -> Qrels:
    """The judgements with their new ids; if several coincide, the highest grade."""
    result: Qrels = {}
    for query_id, grades in qrels.items():
        for doc_id, grade in grades.items():
            for new in carry(query_id, doc_id):
                judged = result.setdefault(query_id, {})
                judged[new] = max(grade, judged.get(new, grade))
    return result


def to_kept_document(
    judgements: Mapping[str, Qrels], copies: Mapping[str, str], documents: Texts, queries: Texts, dropped: Ledger
) -> Carry:
    """Transfer from copies to the kept document; judgements of dropped queries and documents are dropped and counted.

    Args:
        judgements: All judgements, by split.
        copies: Copy -> kept document.
        documents: The remaining documents.
        queries: The remaining queries.
        dropped: Counts dropped judgements.
    """
    judged = [(query, grades) for qrels in judgements.values() for query, grades in qrels.items()]
    known_queries = queries.intersection(query for query, _ in judged)
    known_documents = documents.intersection(copies.get(doc, doc) for _, grades in judged for doc in grades)

    def carry(query_id: str, doc_id: str) -> Sequence[str]:
        kept = copies.get(doc_id, doc_id)
        if query_id not in known_queries:
            dropped.add("judgement of a dropped query", f"{query_id} {doc_id}")
        elif kept not in known_documents:
            dropped.add("judgement of a dropped document", f"{query_id} {doc_id}")
        else:
            return [kept]
        return []

    return carry
