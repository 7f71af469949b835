"""Finds and removes training examples that leak from held-out splits.

Knows judgements and texts; must not know files. Texts are compared, not ids. There are two kinds of leaks, not equally
serious:

* A training *query* whose words (nearly) equal those of a held-out query reveals the held-out answer; it is removed by
  default. In open-domain question answering, repeated questions inflate results most: Lewis, Stenetorp and Riedel,
  "Question and Answer Test-Train Overlap in Open-Domain QA Datasets", 2021, arXiv:2008.02637.
* A training *pair* whose relevant passage (nearly) equals one that is relevant in a held-out split only reveals that
  the passage answers something. Splits are mostly drawn by query over a shared corpus, so this is common and intended;
  without these pairs there is less training data, and results are not comparable with published ones. They are counted,
  and removed only with ``remove-all``, which shows how a student does on new passages.
"""

from __future__ import annotations

from collections.abc import Iterable

from retrieval_distill.config import PrepareConfig
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.prepare.near import NearIndex
from retrieval_distill.data.prepare.words import shingles, words

REMOVED = {"report": (False, False), "remove": (True, False), "remove-all": (True, True)}
"""Option -> (whether to remove leaking queries, whether to remove leaking pairs)."""


def check(dataset: Dataset, config: PrepareConfig, leaks: Ledger) -> dict[str, Qrels]:
    """The dataset's judgements, with leaks removed from the training split as configured, and counted in ``leaks``."""
    assert config.train is not None and config.held_out is not None
    train = dataset.qrels.get(config.train)
    held = [dataset.qrels[split] for split in config.held_out if split in dataset.qrels]
    if config.leakage == "off" or train is None or not held:
        return dataset.qrels
    held_queries = (query_id for judged in held for query_id in judged)
    relevant = (doc_id for judged in held for doc_id in _relevant(judged))
    texts, documents = dataset.queries, dataset.documents
    queries = find_leaks(texts, train, texts, held_queries, 1, config.query_threshold)
    passages = find_leaks(documents, _relevant(train), documents, relevant, config.near_words, config.near_threshold)
    return {**dataset.qrels, config.train: _without(train, queries, passages, REMOVED[config.leakage], leaks)}


def _relevant(judged: Qrels) -> Iterable[str]:
    return (doc_id for grades in judged.values() for doc_id, grade in grades.items() if grade > 0)


def find_leaks(
    texts: Texts, learnt: Iterable[str], held_texts: Texts, held: Iterable[str], size: int, threshold: float
) -> dict[str, str]:
    """The ids of ``learnt`` whose text occurs in ``held`` -> ``"equal to"`` or ``"near"``.

    Args:
        texts: Texts of training.
        learnt: Their ids.
        held_texts: Texts of the held-out splits.
        held: Their ids.
        size: Words per shingle.
        threshold: Jaccard similarity of shingles above which texts are near.
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


def _without(
    train: Qrels, queries: dict[str, str], passages: dict[str, str], removed: tuple[bool, bool], leaks: Ledger
) -> Qrels:
    """Training judgements without leaking queries and pairs, as far as these are to be removed.

    If pairs are removed, so is a query whose relevant passages all leak.
    """
    query_fate, pair_fate = ("removed" if gone else "kept" for gone in removed)
    clean: Qrels = {}
    for query_id, grades in train.items():
        if query_id in queries:
            leaks.add(f"training query {queries[query_id]} a held-out one: {query_fate}", query_id)
            if removed[0]:
                continue
        leaking = [doc_id for doc_id, grade in grades.items() if grade > 0 and doc_id in passages]
        for doc_id in leaking:
            leaks.add(f"training pair whose passage is {passages[doc_id]} a held-out relevant one: {pair_fate}",
                      f"{query_id} {doc_id}")  # fmt: skip
        left = {doc_id: grade for doc_id, grade in grades.items() if doc_id not in leaking}
        whole = bool(leaking) and not any(grade > 0 for grade in left.values())
        if whole:
            leaks.add(f"training query whose relevant passages all leak: {pair_fate}", query_id)
        if not (whole and removed[1]):
            clean[query_id] = left if removed[1] else grades
    return clean
