"""Objectives that copy numbers and distributions, and InfoNCE: by hand and against the library."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr, softmax
from sentence_transformers.sentence_transformer.losses import DistillKLDivLoss, MarginMSELoss

from retrieval_distill.objectives.in_batch import InBatchContrastive
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.objectives.margin_mse import MarginMSE
from retrieval_distill.objectives.score_mse import ScoreMSE
from tests.objectives.helpers import lists, ragged


def test_margin_mse_by_hand():
    # margins of the relevant over the two others: student 2 and 3, teacher 5 and 1 -> ((2-5)^2 + (3-1)^2) / 2
    value = MarginMSE()(lists([[3.0, 1.0, 0.0]], [[4.0, -1.0, 3.0]], [[1, 0, 0]]))
    assert value.item() == pytest.approx((9 + 4) / 2)


def test_margin_mse_does_not_care_where_the_relevant_one_stands():
    first = MarginMSE()(lists([[3.0, 1.0, 0.0]], [[4.0, -1.0, 3.0]], [[1, 0, 0]]))
    last = MarginMSE()(lists([[1.0, 0.0, 3.0]], [[-1.0, 3.0, 4.0]], [[0, 0, 1]]))
    assert first.item() == pytest.approx(last.item())


def test_margin_mse_weighs_every_pair_alike_and_ignores_padding():
    value = MarginMSE()(
        lists(
            [[2.0, 0.0, 99.0], [1.0, 5.0, 0.0]],
            [[1.0, 0.0, -99.0], [0.0, 2.0, 0.0]],
            [[1, 0, 0], [1, 2, 0]],
            [[True, True, False], [True, True, True]],
        )
    )
    # row 1: (2-1)^2; row 2, two relevant over one other: (1-0)^2 and (5-2)^2
    assert value.item() == pytest.approx((1 + 1 + 9) / 3)


def test_margin_mse_equals_the_library():
    torch.manual_seed(0)
    queries, documents = torch.randn(5, 8), [torch.randn(5, 8) for _ in range(4)]
    teacher = torch.randn(5, 4)
    labels = (teacher[:, :1] - teacher[:, 1:]).float()
    expected = MarginMSELoss(torch.nn.Identity()).compute_loss_from_embeddings([queries, *documents], labels)
    student = torch.stack([(queries * document).sum(-1) for document in documents], dim=1)
    ours = MarginMSE()(lists(student, teacher, [[1, 0, 0, 0]] * 5))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_margin_mse_of_all_pairs_against_a_loop():
    student, teacher, mask = ragged(0)
    errors = []
    for s, t, m in zip(student, teacher, mask, strict=True):
        difference = (s - 0.5 * t)[m].tolist()
        errors += [(a - b) ** 2 for a, b in combinations(difference, 2)]
    ours = MarginMSE(0.5, pairs="all")(lists(student, teacher, 0 * student, mask))
    assert ours.item() == pytest.approx(np.mean(errors))


def test_score_mse_by_hand_and_equal_to_torchs():
    # 3 - 2, -1 - 0.5, padding
    value = ScoreMSE(0.5)(lists([[3.0, -1.0, 9.0]], [[4.0, 1.0, -9.0]], [[0] * 3], [[True, True, False]]))
    assert value.item() == pytest.approx((1 + 2.25) / 2)
    student, teacher, mask = ragged(1)
    expected = torch.nn.functional.mse_loss(student[mask], 0.1 * teacher[mask])
    assert ScoreMSE(0.1)(lists(student, teacher, 0 * student, mask)).item() == pytest.approx(expected.item())


def test_listwise_kl_by_hand():
    teacher, student = [math.log(0.7), math.log(0.2), math.log(0.1)], [math.log(0.5), math.log(0.25), math.log(0.25)]
    expected = 0.7 * math.log(0.7 / 0.5) + 0.2 * math.log(0.2 / 0.25) + 0.1 * math.log(0.1 / 0.25)
    assert ListwiseKL()(lists([student], [teacher], [[1, 0, 0]])).item() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_listwise_kl_equals_the_library(temperature):
    torch.manual_seed(0)
    queries, documents = torch.randn(5, 8), [torch.randn(5, 8) for _ in range(4)]
    teacher = torch.randn(5, 4)
    peer = DistillKLDivLoss(torch.nn.Identity(), temperature=temperature)
    expected = peer.compute_loss_from_embeddings([queries, *documents], teacher) / temperature**2
    student = torch.stack([(queries * document).sum(-1) for document in documents], dim=1)
    ours = ListwiseKL(temperature, temperature)(lists(student, teacher, [[1, 0, 0, 0]] * 5))
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("direction", "divergence"),
    [
        ("forward", lambda p, q: rel_entr(p, q).sum()),
        ("reverse", lambda p, q: rel_entr(q, p).sum()),
        ("jensen-shannon", lambda p, q: jensenshannon(p, q) ** 2),
    ],
)
def test_listwise_kl_equals_scipys_in_each_direction(direction, divergence):
    student, teacher, mask = ragged(2)
    expected = [
        divergence(softmax(t[m].numpy() / 2.0), softmax(s[m].numpy() / 0.5))
        for s, t, m in zip(student, teacher, mask, strict=True)
    ]
    ours = ListwiseKL(2.0, 0.5, direction)(lists(student, teacher, 0 * student, mask))
    assert ours.item() == pytest.approx(np.mean(expected))


def test_jensen_shannon_is_bounded_and_looks_the_same_from_both_sides():
    far = lists([[900.0, 0.0]], [[0.0, 900.0]], [[0, 0]])
    assert ListwiseKL(direction="jensen-shannon")(far).item() == pytest.approx(math.log(2))
    student, teacher, mask = ragged(3)
    there = ListwiseKL(direction="jensen-shannon")(lists(student, teacher, 0 * student, mask))
    back = ListwiseKL(direction="jensen-shannon")(lists(teacher, student, 0 * student, mask))
    assert there.item() == pytest.approx(back.item())


def test_listwise_kl_ignores_padding():
    padded = ListwiseKL()(lists([[1.0, 2.0, 50.0]], [[0.5, 0.1, -7.0]], [[1, 0, 0]], [[True, True, False]]))
    assert padded.item() == pytest.approx(ListwiseKL()(lists([[1.0, 2.0]], [[0.5, 0.1]], [[1, 0]])).item())


def test_in_batch_is_cross_entropy_when_each_query_has_one_relevant():
    torch.manual_seed(0)
    scores = torch.randn(4, 6, dtype=torch.float64)
    labels = torch.zeros(4, 6, dtype=torch.float64)
    labels[torch.arange(4), torch.tensor([0, 3, 5, 1])] = 1
    expected = torch.nn.functional.cross_entropy(scores / 0.5, torch.tensor([0, 3, 5, 1]))
    ours = InBatchContrastive(temperature=0.5)(lists(scores, scores, labels, in_batch=scores, in_batch_labels=labels))
    assert ours.item() == pytest.approx(expected.item())


def test_in_batch_takes_other_relevant_ones_out_of_the_denominator():
    value = InBatchContrastive()(lists([[1.0, 2.0, 0.0]], [[0.0] * 3], [[1, 1, 0]]))
    expected = (math.log1p(math.exp(0 - 1.0)) + math.log1p(math.exp(0 - 2.0))) / 2
    assert value.item() == pytest.approx(expected)
