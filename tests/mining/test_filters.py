"""False-negative filters by hand on logits of either sign, and the margin against the library's own miner."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from retrieval_distill.config import FilterConfig
from retrieval_distill.config.recipe_loader import parse
from retrieval_distill.data.run import Run
from retrieval_distill.errors import UserError
from retrieval_distill.mining.negative_filters import RULES, keep_negatives

QRELS = {"q1": {"p": 1, "p2": 1, "n0": 0}, "q2": {"p": 1}, "q3": {"absent": 1}}
SCORED = Run.from_dict(
    {
        "q1": {"p": 6.0, "p2": 3.0, "n0": 5.0, "n1": 3.0, "n2": 2.9, "n3": 1.0, "n4": -4.0},
        "q2": {"p": -3.0, "n1": -2.0, "n2": -3.05, "n3": -3.2, "n4": -8.0},
        "q3": {"n1": 1.0, "n2": -1.0},
    }
)


def kept(**rules) -> dict[str, set[str]]:
    run, _ = keep_negatives(SCORED, QRELS, FilterConfig(**rules))
    return {query: set(docs) for query, docs in run.as_dict().items()}


def test_without_rules_all_stay():
    assert keep_negatives(SCORED, QRELS, FilterConfig())[0].frame.equals(SCORED.frame)


def test_a_band_of_scores():
    assert kept(lowest=-3.0, highest=2.9) == {
        "q1": {"p", "p2", "n2", "n3"}, "q2": {"p", "n1"}, "q3": {"n1", "n2"}
    }  # fmt: skip


def test_the_margin_is_to_the_relevant_document_of_lowest_score():
    assert kept(margin=0) == {
        "q1": {"p", "p2", "n2", "n3", "n4"}, "q2": {"p", "n2", "n3", "n4"}, "q3": {"n1", "n2"}
    }  # fmt: skip
    assert kept(margin=2) == {"q1": {"p", "p2", "n4"}, "q2": {"p", "n4"}, "q3": {"n1", "n2"}}  # n3 is just 2 below


def sigmoid(score: float) -> float:
    return 1 / (1 + math.exp(-score))


def test_a_share_is_one_of_the_chance_not_of_the_logit():
    """95 % of sigmoid(-3) is sigmoid(-3.054): -3.05 is above it, -3.2 below; 95 % of the logit would be -2.85."""
    assert sigmoid(-3.05) > 0.95 * sigmoid(-3.0) > sigmoid(-3.2)
    assert kept(share_of_positive=0.95)["q2"] == {"p", "n3", "n4"}
    # 95 % of sigmoid(3) = 0.9526 is 0.905 = sigmoid(2.254)
    assert kept(share_of_positive=0.95)["q1"] == {"p", "p2", "n3", "n4"}


def test_the_best_may_be_a_negative():
    # 90 % of sigmoid(-2) = 0.1192 is 0.1073; sigmoid(-3.05) = 0.0452
    assert kept(share_of_best=0.9)["q2"] == {"p", "n2", "n3", "n4"}
    # 90 % of sigmoid(6) = 0.9975 is 0.8978 = sigmoid(2.173)
    assert kept(share_of_best=0.9)["q1"] == {"p", "p2", "n3", "n4"}
    assert kept(share_of_best=0.9)["q3"] == {"n2"}


def test_counts_are_of_each_rule_alone():
    _, counts = keep_negatives(SCORED, QRELS, FilterConfig(highest=2.95, margin=0))
    assert counts == {"highest": 2, "margin": 3}  # n0 and n1 of q1; the same and n1 of q2


def test_every_rule_is_an_option():
    assert set(RULES) == set(FilterConfig.model_fields)
    with pytest.raises(UserError, match=r"share_of_positive: .*less than or equal to 1"):
        parse(FilterConfig, {"share_of_positive": 95}, "filter-negatives")


class Known:
    """A bi-encoder whose vectors are given by the texts, which are numbers."""

    device = torch.device("cpu")

    def __init__(self, queries: np.ndarray, documents: np.ndarray) -> None:
        self.vectors = {"query": queries, "document": documents}

    def encode_query(self, texts, **_):
        return self.vectors["query"][[int(text) for text in texts]]

    def encode_document(self, texts, **_):
        return self.vectors["document"][[int(text) for text in texts]]

    def similarity(self, queries, documents):
        return torch.as_tensor(queries) @ torch.as_tensor(documents).T

    def similarity_pairwise(self, queries, documents):
        return (torch.as_tensor(queries) * torch.as_tensor(documents)).sum(dim=1)


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_the_librarys_miner_keeps_the_same(margin):
    """All 40 documents are candidates; what stays of their scores under the margin is what it mines."""
    from datasets import Dataset
    from sentence_transformers import mine_hard_negatives

    rng = np.random.default_rng(4)
    queries, documents = (rng.normal(size=(n, 8)).astype(np.float32) for n in (6, 40))
    mined = mine_hard_negatives(
        Dataset.from_dict({"query": [str(q) for q in range(6)], "positive": [str(q) for q in range(6)]}),
        Known(queries, documents), corpus=[str(d) for d in range(40)], absolute_margin=margin, range_max=40,
        num_negatives=40, output_format="labeled-list", verbose=False,
    )  # fmt: skip
    theirs = {row["query"]: set(row["positive"][1:]) for row in mined}
    scores = queries @ documents.T
    run = Run.from_dict({str(q): {str(d): float(scores[q, d]) for d in range(40)} for q in range(6)})
    found, _ = keep_negatives(run, {str(q): {str(q): 1} for q in range(6)}, FilterConfig(margin=margin))
    ours = {query: set(docs) - {query} for query, docs in found.as_dict().items()}
    assert {query: docs for query, docs in ours.items() if docs} == theirs
    assert 0 < sum(map(len, theirs.values())) < 6 * 39
