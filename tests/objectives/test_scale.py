"""The scale check refuses what cannot work, warns of what hardly can, and its advice works."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval_distill.errors import UserError
from retrieval_distill.objectives import Mix
from retrieval_distill.objectives.scale import check_scale


def teacher(spread, queries=40, length=8, seed=0):
    """Scores whose margins are about ``spread``."""
    return list(spread * np.random.default_rng(seed).normal(size=(queries, length)))


def advice(message, key):
    """The value that a message names for an option."""
    return float(re.search(rf"{re.escape(key)}=([0-9.e+-]+?)(?=[ ;]|$)", message.split("; ", 1)[1])[1])


def median_entropy_share(scores, temperature):
    shares = []
    for row in scores:
        p = torch.distributions.Categorical(logits=torch.as_tensor(np.asarray(row) / temperature))
        shares.append(p.entropy().item() / math.log(len(row)))
    return float(np.median(shares))


def test_usual_scales_pass_in_silence():
    mix = {"margin_mse": 0.05, "listwise_kl": {"weight": 1.0, "teacher_temperature": 4.0}, "rank_net": 1.0}
    assert check_scale(teacher(4.0), "cosine", 20.0, mix) == []
    assert check_scale(teacher(4.0), "cosine", 20.0, Mix(mix)) == []


@pytest.mark.parametrize("name", ["margin_mse", "score_mse"])
def test_margins_out_of_reach_are_refused_and_either_advice_works(name):
    scores = teacher(8.0)
    with pytest.raises(UserError, match=rf"objectives\.{name}: .*student\.scale=1 .*out of reach") as caught:
        check_scale(scores, "cosine", 1.0, {name: 1.0})
    message = str(caught.value)
    assert check_scale(scores, "cosine", advice(message, "student.scale"), {name: 1.0}) == []
    scaled = {name: {"teacher_scale": advice(message, f"objectives.{name}.teacher_scale")}}
    assert check_scale(scores, "cosine", 1.0, scaled) == []


def test_the_limit_is_what_similarities_span():
    # one candidate 10 below the best in every list: reachable by 2 * scale = 10, not by 9.9
    scores = [np.array([0.0, 10.0])] * 20
    assert "hard to reach" in check_scale(scores, "cosine", 5.0, {"margin_mse": 1.0})[0]
    with pytest.raises(
        UserError, match=r"margins .* have a median of 10 .* are at most 9\.9: out of reach; set student\.scale=10 "
    ):
        check_scale(scores, "cosine", 4.95, {"margin_mse": 1.0})
    assert check_scale(scores, "cosine", 4.95, {"margin_mse": {"teacher_scale": 0.1}}) == []


def test_a_few_extreme_margins_are_let_pass():
    scores = [np.array([0.0, 1.0])] * 97 + [np.array([0.0, 1000.0])] * 3
    assert check_scale(scores, "cosine", 2.0, {"margin_mse": 1.0}) == []


def test_scores_are_held_against_the_ends_of_the_scale_and_margins_against_its_span():
    scores = [np.array([-5.0, 5.0])] * 20
    with pytest.raises(UserError, match=r"score_mse: .*are at most 4"):
        check_scale(scores, "cosine", 4.0, {"score_mse": 1.0})
    with pytest.raises(UserError, match=r"margin_mse: .*are at most 8"):
        check_scale(scores, "cosine", 4.0, {"margin_mse": 1.0})


def test_squashed_scores_are_too_small():
    scores = [1 / (1 + np.exp(-row)) / 10 for row in teacher(1.0)]
    (warning,) = check_scale(scores, "cosine", 20.0, {"margin_mse": 1.0})
    assert "too small to learn from" in warning
    better = advice(warning, "objectives.margin_mse.teacher_scale")
    assert check_scale(scores, "cosine", 20.0, {"margin_mse": {"teacher_scale": better}}) == []
    assert check_scale(scores, "cosine", advice(warning, "student.scale"), {"margin_mse": 1.0}) == []


def test_nothing_bounds_a_dot_product():
    assert check_scale(teacher(1000.0), "dot", 1.0, {"margin_mse": 1.0, "score_mse": 1.0}) == []


@pytest.mark.parametrize("name", ["listwise_kl", "list_net", "soft_contrastive"])
@pytest.mark.parametrize(("spread", "shape"), [(200.0, "one-hot"), (0.01, "uniform")])
def test_degenerate_distributions_are_told_with_a_temperature_that_helps(name, spread, shape):
    scores = [row[: 3 + i % 6] for i, row in enumerate(teacher(spread))]
    (warning,) = check_scale(scores, "dot", 1.0, {name: 1.0})
    assert f"nearly {shape}" in warning
    better = advice(warning, f"objectives.{name}.teacher_temperature")
    assert median_entropy_share(scores, better) == pytest.approx(0.5, abs=0.03)
    assert check_scale(scores, "dot", 1.0, {name: {"teacher_temperature": better}}) == []


def test_the_entropy_told_is_the_median_over_ragged_lists():
    scores = [row[: 2 + i % 7] for i, row in enumerate(teacher(0.05))]
    (warning,) = check_scale(scores, "dot", 1.0, {"listwise_kl": 1.0})
    assert f"{median_entropy_share(scores, 1.0):.1%}" in warning


def test_log_odds_beyond_the_student_are_told():
    scores = [np.array([0.0, 10.0, 9.0])] * 5
    (warning,) = check_scale(scores, "cosine", 1.0, {"listwise_kl": {"teacher_temperature": 2.0}})
    assert "cannot exceed 2" in warning
    better = advice(warning, "objectives.listwise_kl.student_temperature")
    options = {"teacher_temperature": 2.0, "student_temperature": better}
    assert check_scale(scores, "cosine", 1.0, {"listwise_kl": options}) == []


def test_a_teacher_that_tells_nothing_apart():
    scores = [np.full(4, 3.0)] * 5
    margins, flat = check_scale(scores, "cosine", 20.0, {"margin_mse": 1.0, "listwise_kl": 1.0})
    assert "all 0" in margins
    assert "no temperature helps" in flat


def test_objectives_that_do_not_look_at_the_scale_are_not_asked():
    mix = {"list_mle": 1.0, "rank_net": 1.0, "adr_mse": 1.0, "approx_ndcg": 1.0, "in_batch": 1.0}
    assert check_scale(teacher(1e6), "cosine", 1.0, {**mix, "soft_contrastive": {"hard": 1.0}}) == []


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], "no query has two"),
        ([np.array([1.0])], "no query has two"),
        ([np.array([1.0, math.nan])], "1 teacher score is NaN or infinite"),
        ([np.array([1.0, math.inf])], "1 teacher score is NaN or infinite"),
    ],
)
def test_bad_scores(scores, message):
    with pytest.raises(UserError, match=message):
        check_scale(scores, "cosine", 20.0, {"margin_mse": 1.0})


@settings(max_examples=60)
@given(
    spread=st.floats(1e-6, 1e6),
    scale=st.floats(0.01, 100),
    teacher_scale=st.floats(0.01, 100),
    name=st.sampled_from(["margin_mse", "score_mse"]),
    seed=st.integers(0, 5),
)
def test_advice_on_numbers_always_works(spread, scale, teacher_scale, name, seed):
    scores, options = teacher(spread, 10, 5, seed), {"teacher_scale": teacher_scale}
    try:
        said = check_scale(scores, "cosine", scale, {name: options})
    except UserError as error:
        said = [str(error)]
    for message in said:
        assert check_scale(scores, "cosine", advice(message, "student.scale"), {name: options}) == []
        better = {"teacher_scale": advice(message, f"objectives.{name}.teacher_scale")}
        assert check_scale(scores, "cosine", scale, {name: better}) == []
