"""Training examples that a held-out split holds too: the same query, or a passage that is relevant there.

Knows judgements and texts; must not know files. A training query leaks when its words equal (or nearly equal) those
of a held-out query, a training pair when its relevant document is, or reads as, one that is relevant in a held-out
split. What leaks is a matter of the texts: ids need not agree.
"""

from __future__ import annotations

from collections.abc import Iterable

from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.ledger import Ledger
from retrieval_distill.data.prepare.config import PrepareConfig
from retrieval_distill.data.prepare.near import NearIndex
from retrieval_distill.data.prepare.words import shingles, words


def check(dataset: Dataset, config: PrepareConfig, leaks: Ledger) -> dict[str, Qrels]:
    """The dataset's judgements, the training split's without what leaks (unless it is only to be reported)."""
    train = dataset.qrels.get(config.train)
    held = [dataset.qrels[split] for split in config.held_out if split in dataset.qrels]
    if config.leakage == "off" or train is None or not held:
        return dataset.qrels
    asked = (query_id for judged in held for query_id in judged)
    relevant = (doc_id for judged in held for doc_id in _relevant(judged))
    texts, documents = dataset.queries, dataset.documents
    queries = seen(texts, train, texts, asked, 1, config.query_threshold)
    passages = seen(documents, _relevant(train), documents, relevant, config.near_words, config.near_threshold)
    clean = _without(train, queries, passages, leaks)
    return dataset.qrels if config.leakage == "report" else {**dataset.qrels, config.train: clean}


def _relevant(judged: Qrels) -> Iterable[str]:
    return (doc_id for grades in judged.values() for doc_id, grade in grades.items() if grade > 0)


def seen(
    texts: Texts, learnt: Iterable[str], held_texts: Texts, held: Iterable[str], size: int, threshold: float
) -> dict[str, str]:
    """Those of ``learnt`` whose text stands among ``held`` -> ``"equal to"`` or ``"near"``.

    Args:
        texts: The texts of training.
        learnt: Their ids.
        held_texts: The texts of the held-out splits.
        held: Their ids.
        size: Words of a run that texts are compared by.
        threshold: Jaccard similarity of those runs from which texts are near.
    """
    learnt, held = list(dict.fromkeys(learnt)), list(dict.fromkeys(held))
    known = held_texts.take(held)
    equal = {" ".join(words(text)) or text for text in known}
    sets = [shingles(text, size) for text in known]
    index = NearIndex(threshold, sets.__getitem__)
    for number, shingled in enumerate(sets):
        index.add(number, shingled)
    found = {}
    for id_, text in zip(learnt, texts.take(learnt), strict=True):
        if (" ".join(words(text)) or text) in equal:
            found[id_] = "equal to"
        elif index.find(shingles(text, size)) is not None:
            found[id_] = "near"
    return found


def _without(train: Qrels, queries: dict[str, str], passages: dict[str, str], leaks: Ledger) -> Qrels:
    """Training judgements without leaking queries and pairs; a query whose relevant documents all leak goes whole."""
    clean: Qrels = {}
    for query_id, grades in train.items():
        if query_id in queries:
            leaks.add(f"training query {queries[query_id]} a held-out one", query_id)
            continue
        kept = {}
        for doc_id, grade in grades.items():
            if grade > 0 and doc_id in passages:
                leaks.add(f"training pair whose passage is {passages[doc_id]} a held-out relevant one",
                          f"{query_id} {doc_id}")  # fmt: skip
            else:
                kept[doc_id] = grade
        if any(grade > 0 for grade in kept.values()) or len(kept) == len(grades):
            clean[query_id] = kept
        else:
            leaks.add("training query whose relevant passages all leak", query_id)
    return clean
