"""Training examples that a held-out split holds too: the same query, or a passage that is relevant there.

Knows judgements and texts; must not know files. What leaks is a matter of the texts: ids need not agree. There are two
kinds, and they do not weigh the same:

* A training *query* whose words equal (or nearly equal) those of a held-out query gives the held-out answer away; it
  goes by default. In open-domain question answering it is repeated questions that flatter a model most: Lewis,
  Stenetorp and Riedel, "Question and Answer Test-Train Overlap in Open-Domain QA Datasets", 2021, arXiv:2008.02637.
* A training *pair* whose relevant passage is, or reads as, one that is relevant in a held-out split only tells that the
  passage answers something. Splits are mostly drawn by query over one shared corpus, so that this is common and part of
  how such collections are meant; without those pairs training shrinks, and results no longer compare with published
  ones. They are counted, and go only under ``remove-all``, which tells how a student does on passages new to it.
"""

from __future__ import annotations

from collections.abc import Iterable

from retrieval_distill.config import PrepareConfig
from retrieval_distill.data.bad_input import Ledger
from retrieval_distill.data.dataset import Dataset, Qrels, Texts
from retrieval_distill.data.prepare.near import NearIndex
from retrieval_distill.data.prepare.words import shingles, words

REMOVED = {"report": (False, False), "remove": (True, False), "remove-all": (True, True)}
"""Option -> whether leaking queries go, whether leaking pairs go."""


def check(dataset: Dataset, config: PrepareConfig, leaks: Ledger) -> dict[str, Qrels]:
    """The dataset's judgements, the training split's without what is to be removed; ``leaks`` counts all that leaks."""
    assert config.train is not None and config.held_out is not None
    train = dataset.qrels.get(config.train)
    held = [dataset.qrels[split] for split in config.held_out if split in dataset.qrels]
    if config.leakage == "off" or train is None or not held:
        return dataset.qrels
    asked = (query_id for judged in held for query_id in judged)
    relevant = (doc_id for judged in held for doc_id in _relevant(judged))
    texts, documents = dataset.queries, dataset.documents
    queries = seen(texts, train, texts, asked, 1, config.query_threshold)
    passages = seen(documents, _relevant(train), documents, relevant, config.near_words, config.near_threshold)
    return {**dataset.qrels, config.train: _without(train, queries, passages, REMOVED[config.leakage], leaks)}


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


def _without(
    train: Qrels, queries: dict[str, str], passages: dict[str, str], removed: tuple[bool, bool], leaks: Ledger
) -> Qrels:
    """Training judgements without leaking queries, and without leaking pairs, as far as these are to be removed.

    With pairs, a query whose relevant passages all leak goes whole.
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
