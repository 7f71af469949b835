"""Mixes are data: weights, options and schedules, and messages for those that cannot be."""

from __future__ import annotations

import pytest

from retrieval_distill.errors import UserError
from retrieval_distill.objectives import OBJECTIVES, Mix
from retrieval_distill.objectives.list_net import ListNet
from retrieval_distill.objectives.listwise_kl import ListwiseKL
from retrieval_distill.objectives.margin_mse import MarginMSE
from tests.objectives.helpers import lists

BATCH = lists([[3.0, 1.0, 0.0]], [[4.0, -1.0, 3.0]], [[1, 0, 0]])
MARGIN, NET = MarginMSE()(BATCH).item(), ListNet()(BATCH).item()


def test_mix_is_the_weighted_sum():
    total, parts = Mix({"margin_mse": 0.5, "listwise_kl": {"weight": 2.0, "teacher_temperature": 3.0}})(BATCH)
    assert total.item() == pytest.approx(0.5 * MARGIN + 2.0 * ListwiseKL(3.0)(BATCH).item())
    assert set(parts) == {"margin_mse", "listwise_kl"}


def test_every_objective_is_known_by_name_and_needs_no_options():
    total, parts = Mix(dict.fromkeys(OBJECTIVES, 1.0))(BATCH)
    assert set(parts) == set(OBJECTIVES)
    assert total.item() == pytest.approx(sum(part.item() for part in parts.values()))


def test_an_objective_may_be_active_for_a_part_of_the_training():
    mix = Mix({"margin_mse": {"weight": 2.0, "until": 0.5}, "list_net": {"from": 0.5}})
    for progress, name, expected in [(0, "margin_mse", 2 * MARGIN), (0.499, "margin_mse", 2 * MARGIN)]:
        total, parts = mix(BATCH, progress)
        assert (list(parts), total.item()) == ([name], pytest.approx(expected))
    for progress in (0.5, 0.9, 1.0):
        total, parts = mix(BATCH, progress)
        assert (list(parts), total.item()) == (["list_net"], pytest.approx(NET))
    assert list(mix(BATCH)[1]) == ["list_net"]  # not told how far training is: as at its end


@pytest.mark.parametrize("weights", [[1.0, 0.0], (1.0, 0.0), {"weight": [1.0, 0.0]}])
def test_a_weight_may_change_linearly(weights):
    mix = Mix({"margin_mse": weights, "list_net": [0.0, 2.0]})
    for progress in (0.0, 0.25, 1.0):
        total, parts = mix(BATCH, progress)
        assert total.item() == pytest.approx((1 - progress) * MARGIN + 2 * progress * NET)
        assert set(parts) == {"margin_mse", "list_net"}


def test_an_objective_of_no_weight_is_left_out():
    assert set(Mix({"margin_mse": 0.0, "list_net": 1.0, "rank_net": [0, 0]}).parts) == {"list_net"}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"margin_mes": 1.0}, "did you mean 'margin_mse'"),
        ({"listwise_kl": {"temperature": 2.0}}, "'temperature' is unknown"),
        ({"listwise_kl": {"form": 0.5}}, "did you mean 'from'"),
        ({"margin_mse": 0.0}, "at least one objective"),
        ({}, "at least one objective"),
        ({"margin_mse": -1.0}, r"objectives\.margin_mse\.weight: .*greater than or equal to 0 \(got -1.0\)"),
        ({"margin_mse": "much"}, r"objectives\.margin_mse\.weight: .*valid number"),
        ({"margin_mse": [1, 2, 3]}, r"objectives\.margin_mse\.weight"),
        ({"margin_mse": {"pairs": "al"}}, r"objectives\.margin_mse\.pairs: .*'relevant' or 'all' \(got 'al'\)"),
        ({"margin_mse": {"teacher_scale": 0}}, r"margin_mse\.teacher_scale: .*greater than 0 \(got 0\)"),
        ({"listwise_kl": {"teacher_temperature": float("nan")}}, r"listwise_kl\.teacher_temperature"),
        ({"soft_contrastive": {"hard": 1.5}}, r"soft_contrastive\.hard: .*less than or equal to 1"),
        ({"margin_mse": {"until": 50}}, r"margin_mse\.until: .*less than or equal to 1"),
        ({"margin_mse": {"from": 0.5, "until": 0.5}}, "from must be below until"),
        ({"margin_mse": {"from": 0.5}}, "none is active from 0 of the training on"),
        ({"margin_mse": {"until": 0.3}, "list_net": {"from": 0.5}}, "none is active from 0.3 of"),
    ],
)
def test_bad_mixes(parts, message):
    with pytest.raises(UserError, match=message):
        Mix(parts)
