"""Objectives that take the teacher's order: against the library's losses, loops in plain Python, and by hand."""

from __future__ import annotations

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sentence_transformers.cross_encoder import losses

from retrieval_distill.objectives.adr_mse import ADRMSE
from retrieval_distill.objectives.approx_ndcg import ApproxNDCG
from retrieval_distill.objectives.list_mle import ListMLE
from retrieval_distill.objectives.list_net import ListNet
from retrieval_distill.objectives.rank_net import RankNet
from retrieval_distill.objectives.soft_ranks import approximate_ranks, average_ranks, ideal_dcg, reciprocal_gains
from tests.objectives.helpers import Parrot, library, lists, ragged


def rows(student, teacher, mask):
    """The real candidates' scores, row by row, as numpy arrays."""
    return [(s[m].numpy(), t[m].numpy()) for s, t, m in zip(student, teacher, mask, strict=True)]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


# ranks


def test_average_ranks_are_scipys():
    scores = torch.tensor([[3.0, 1.0, 3.0, 2.0, 9.0], [0.0, 0.0, 0.0, 5.0, 9.0]])
    mask = torch.tensor([[True] * 4 + [False]] * 2)
    expected = [rankdata(-row[:4].numpy()) for row in scores]
    assert average_ranks(scores, mask)[:, :4].numpy() == pytest.approx(np.array(expected))


def test_approximate_ranks_become_ranks_as_the_temperature_falls():
    student, _, mask = ragged(0)
    assert approximate_ranks(student, mask, 1e-4)[mask].numpy() == pytest.approx(average_ranks(student, mask)[mask])
    equal = torch.zeros(1, 4, dtype=torch.float64)
    assert approximate_ranks(equal, equal == 0, 1.0).tolist() == [[2.5] * 4]


def test_ideal_dcg_by_hand():
    mask = torch.tensor([[True, True, True, False]])
    gains = reciprocal_gains(torch.tensor([[2.0, 9.0, 5.0, 99.0]], dtype=torch.float64), mask)
    assert gains.tolist() == [pytest.approx([1 / 3, 1, 1 / 2, 0])]
    assert ideal_dcg(gains).item() == pytest.approx(1 + 0.5 / math.log2(3) + (1 / 3) / 2)


# ListNet


def test_list_net_by_hand():
    teacher, student = np.log([0.7, 0.2, 0.1]), np.log([0.5, 0.25, 0.25])
    expected = -(0.7 * math.log(0.5) + 0.3 * math.log(0.25))
    assert ListNet()(lists(student[None], teacher[None], [[0, 0, 0]])).item() == pytest.approx(expected)
    softened = ListNet(2.0, 4.0)(lists(4 * student[None], 2 * teacher[None], [[0, 0, 0]]))
    assert softened.item() == pytest.approx(expected)


def test_list_net_equals_the_library():
    student, teacher, mask = ragged(1)
    expected = library(losses.ListNetLoss(Parrot()), student, teacher, mask)
    assert ListNet()(lists(student, teacher, 0 * student, mask)).item() == pytest.approx(expected, rel=1e-5)


# ListMLE


def test_list_mle_is_the_likelihood_of_one_order_among_all():
    """Over all orders of four candidates the likelihoods add up to 1, and the teacher's is the one reported."""
    student = torch.tensor([[0.3, -1.0, 2.0, 0.5]], dtype=torch.float64)
    likelihoods = [
        math.exp(-ListMLE()(lists(student, [list(map(float, order))], [[0] * 4])).item())
        for order in permutations(range(4))
    ]
    assert sum(likelihoods) == pytest.approx(1)
    first, second, third, fourth = (math.exp(student[0, i]) for i in (2, 0, 3, 1))
    expected = first / (first + second + third + fourth) * second / (second + third + fourth) * third / (third + fourth)
    assert math.exp(-ListMLE()(lists(student, [[8.0, -1.0, 9.0, 7.0]], [[0] * 4])).item()) == pytest.approx(expected)


def test_list_mle_equals_the_library():
    student, teacher, mask = ragged(2)
    ours = ListMLE()(lists(student, teacher, 0 * student, mask)).item()
    peer = losses.ListMLELoss(Parrot(), respect_input_order=False)
    assert ours == pytest.approx(library(peer, student, teacher, mask), rel=1e-5)


def test_position_aware_list_mle_equals_the_library():
    student, teacher, mask = ragged(3)
    batch = lists(student, teacher, 0 * student, mask)
    peer = losses.PListMLELoss(Parrot(), respect_input_order=False)
    assert ListMLE(position_weight="exponential")(batch).item() == pytest.approx(
        library(peer, student, teacher, mask), rel=1e-5
    )
    logarithmic = losses.PListMLELambdaWeight(lambda mask: mask / torch.log2(1 + mask.cumsum(dim=1)))
    peer = losses.PListMLELoss(Parrot(), lambda_weight=logarithmic, respect_input_order=False)
    assert ListMLE(position_weight="logarithmic")(batch).item() == pytest.approx(
        library(peer, student, teacher, mask), rel=1e-5
    )


def test_list_mle_by_labels_puts_grades_first_and_lets_the_teacher_decide_within():
    student, teacher = [[0.3, -1.0, 2.0, 0.5]], [[1.0, 2.0, 3.0, 4.0]]
    by_labels = ListMLE("labels")(lists(student, teacher, [[2, 0, 0, 1]]))
    assert by_labels.item() == pytest.approx(ListMLE()(lists(student, [[9.0, 1.0, 2.0, 3.0]], [[0] * 4])).item())


def test_list_mle_lets_equal_candidates_compete():
    # all equal: each one's denominator holds all; the minimum is a flat student
    student = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    expected = -torch.log_softmax(student, dim=1).sum().item()
    assert ListMLE()(lists(student, [[7.0] * 3], [[0] * 3])).item() == pytest.approx(expected)


def test_position_weights_of_very_long_lists_stay_finite():
    student = torch.randn(1, 400, generator=torch.Generator().manual_seed(0))
    for weight in ("exponential", "logarithmic"):
        value = ListMLE(position_weight=weight)(
            lists(student, torch.arange(400.0)[None], 0 * student, dtype=torch.float32)
        )
        assert math.isfinite(value)


# RankNet


def test_rank_net_by_hand():
    # teacher order: 0 > 2 > 1; margins of the student 1, 3, 2 (at temperature 1) -> halved at temperature 2
    expected = sum(math.log1p(math.exp(-margin / 2)) for margin in (1, 3, 2)) / 3
    value = RankNet(temperature=2.0)(lists([[3.0, 0.0, 2.0]], [[9.0, 1.0, 5.0]], [[0] * 3]))
    assert value.item() == pytest.approx(expected)


def test_rank_net_equals_the_library():
    student, teacher, mask = ragged(4)
    teacher[0, 1] = teacher[0, 0]  # an equal pair is left out by both
    peer = losses.RankNetLoss(Parrot(), sigma=0.5, reduction_log="natural")
    ours = RankNet(temperature=2.0)(lists(student, teacher, 0 * student, mask))
    assert ours.item() == pytest.approx(library(peer, student, teacher, mask), rel=1e-5)


def test_lambda_rank_equals_the_library_given_our_gains():
    """The library's gain is ``2 ** label - 1``: labels of ``log2(1 + 1 / rank)`` make it ours."""
    student, teacher, mask = ragged(5)
    gains = [1 / rankdata(-t) for _, t in rows(student, teacher, mask)]
    labels = torch.zeros_like(teacher)
    for row, gain in zip(labels, gains, strict=True):
        row[: len(gain)] = torch.from_numpy(np.log2(1 + gain))
    peer = losses.LambdaLoss(Parrot(), weighting_scheme=losses.LambdaRankScheme(), reduction_log="natural")
    ours = RankNet("lambda")(lists(student, teacher, 0 * student, mask))
    assert ours.item() == pytest.approx(library(peer, student, labels, mask), rel=1e-5)


def test_lambda_weights_are_what_a_swap_does_to_ndcg():
    student, teacher, mask = ragged(6, sizes=(4,))
    (s, t), length = rows(student, teacher, mask)[0], 4
    gains, order = 1 / rankdata(-t), list(np.argsort(-s))

    def ndcg(order):
        best = sum(gain / math.log2(2 + place) for place, gain in enumerate(sorted(gains, reverse=True)))
        return sum(gains[i] / math.log2(2 + place) for place, i in enumerate(order)) / best

    total = 0.0
    for i, j in combinations(range(length), 2):
        swapped = [{i: j, j: i}.get(k, k) for k in order]
        better, worse = (i, j) if t[i] > t[j] else (j, i)
        total += abs(ndcg(order) - ndcg(swapped)) * math.log1p(math.exp(-(s[better] - s[worse])))
    ours = RankNet("lambda")(lists(student, teacher, 0 * student, mask))
    assert ours.item() == pytest.approx(total / 6)


# ADR-MSE


def test_adr_mse_by_hand():
    # teacher ranks 1, 2; student ranks 1 + sigmoid(s_other - s_own)
    first, second = 1 + sigmoid(-2.0 - 1.0), 1 + sigmoid(1.0 + 2.0)
    expected = ((1 - first) ** 2 / math.log2(2) + (2 - second) ** 2 / math.log2(3)) / 2
    assert ADRMSE()(lists([[1.0, -2.0]], [[0.2, 0.1]], [[0, 0]])).item() == pytest.approx(expected)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_adr_mse_equals_the_library(temperature):
    student, teacher, mask = ragged(7)
    teacher[1, 2] = teacher[1, 0]  # equal scores share their mean rank on both sides
    peer = losses.ADRMSELoss(Parrot(), alpha=1 / temperature)
    ours = ADRMSE(temperature)(lists(student, teacher, 0 * student, mask))
    assert ours.item() == pytest.approx(library(peer, student, teacher, mask), rel=1e-5)


# approximate nDCG


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_approx_ndcg_against_a_loop(temperature):
    student, teacher, mask = ragged(8)
    values = []
    for s, t in rows(student, teacher, mask):
        gains = 1 / rankdata(-t)
        ranks = [1 + sum(sigmoid((b - a) / temperature) for j, b in enumerate(s) if j != i) for i, a in enumerate(s)]
        ideal = sum(gain / math.log2(place) for place, gain in enumerate(sorted(gains, reverse=True), 2))
        values.append(1 - sum(gain / math.log2(1 + rank) for gain, rank in zip(gains, ranks, strict=True)) / ideal)
    ours = ApproxNDCG(temperature=temperature)(lists(student, teacher, 0 * student, mask))
    assert ours.item() == pytest.approx(np.mean(values))


def test_approx_ndcg_of_labels_approaches_ndcg():
    # order of the student: 1, 0, 2 with grades 0, 2, 1
    dcg, ideal = 3 / math.log2(3) + 1 / 2, 3 + 1 / math.log2(3)
    value = ApproxNDCG("labels", temperature=1e-3)(lists([[2.0, 3.0, 1.0]], [[0.0] * 3], [[2, 0, 1]]))
    assert value.item() == pytest.approx(1 - dcg / ideal)


def test_approx_ndcg_without_a_gain_adds_nothing():
    student = torch.tensor([[2.0, 3.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    batch = lists(student, [[0.0] * 2] * 2, [[0, 0], [1, 0]])
    value = ApproxNDCG("labels")(batch)
    value.backward()
    assert value.item() == pytest.approx(ApproxNDCG("labels")(lists([[1.0, 2.0]], [[0.0] * 2], [[1, 0]])).item() / 2)
    assert student.grad[0].tolist() == [0, 0]
    assert student.grad[1].abs().sum() > 0
